"""Options that several commands share, and what they stand for."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from securegan.cli.parser import Parser

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
    from securegan.security.provenance.requirement import given_store
    from securegan.security.provenance.signing import read_public

    root = None if arguments.root is None else read_public(arguments.root)
    return given_store(arguments.trust, root=root, name=arguments.store_name)


def signer_for(arguments: argparse.Namespace, purpose: str) -> "Signer":
    """The key that was named, if it may sign that. Raises UserError or PolicyError."""
    from securegan.security.keys.ring import KeyRing
    from securegan.security.provenance.signing import signer_of

    return signer_of(KeyRing.open(arguments.keys), arguments.key, purpose)
