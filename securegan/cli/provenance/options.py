"""Options that several commands share, and what they stand for."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from securegan.cli.parser import Parser
from securegan.errors import UserError

if TYPE_CHECKING:
    from securegan.security.provenance.signing import Signer
    from securegan.security.provenance.trust import Trust

HOLDS = ("image", "checkpoint", "dataset", "run")


def trusting(parser: Parser) -> None:
    """Which trust store."""
    parser.add_argument(
        "--trust",
        type=Path,
        metavar="STORE",
        help="default: store.json in $SECUREGAN_TRUST, else in ~/.config/securegan/trust",
    )
    parser.add_argument("--root", type=Path, metavar="PEM", help="the store's root, believed for this once")
    parser.add_argument("--store-name", metavar="NAME", help="that the store must have, here from now on")


def signing(parser: Parser, flag: str, what: str) -> None:
    """Which key of which key ring."""
    parser.add_argument(flag, dest="key", required=True, metavar="KEY", help=f"{what}: its name or kid in the key ring")
    parser.add_argument("--keys", type=Path, metavar="FOLDER", help="the key ring (default: $SECUREGAN_KEYS)")


def trust_of(arguments: argparse.Namespace) -> "Trust":
    """The trust store that was named. Raises UserError, and no AuthenticationError: nothing was verified yet."""
    from securegan.security.errors import AuthenticationError
    from securegan.security.provenance.memory import Memory
    from securegan.security.provenance.signing import read_public
    from securegan.security.provenance.trust import read_store

    memory = Memory()
    root = None if arguments.root is None else read_public(arguments.root)
    try:
        return read_store(arguments.trust or memory.folder / "store.json", memory, root, name=arguments.store_name)
    except AuthenticationError as error:
        raise UserError(str(error)) from error


def signer_for(arguments: argparse.Namespace, purpose: str) -> "Signer":
    """The key that was named, if it may sign that. Raises UserError or PolicyError."""
    from securegan.security.keys.ring import KeyRing
    from securegan.security.provenance.signing import signer_of

    return signer_of(KeyRing.open(arguments.keys), arguments.key, purpose)
