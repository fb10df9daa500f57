"""Commands on the key ring: ``keys new``, ``list``, ``rotate``, ``revoke`` and ``export``."""

import argparse
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from securegan.cli.parser import Commands
from securegan.cli.recording import recorded, recording
from securegan.cli.terminal import say

if TYPE_CHECKING:
    from rich.table import Table

    from securegan.security.keys.key import Key
    from securegan.security.keys.ring import KeyRing

SOON = timedelta(days=30)
PIPED = 120  # columns of a table that no terminal shows
COLOURS = {"active": "green", "decrypt-only": "yellow", "not yet valid": "yellow", "expired": "red", "revoked": "red"}


def add(commands: Commands) -> None:
    """The commands of this module."""
    keys = commands.add_parser("keys", help="make, list, rotate and revoke the keys that seal and sign")
    inner = keys.add_subparsers(required=True, metavar="COMMAND")
    new = inner.add_parser("new", help="a new key of random bytes")
    new.add_argument("name", metavar="NAME")
    new.add_argument("--kind", default="aes256", help="aes256, x25519 (has a public part) or ed25519 (signs)")
    new.add_argument("--purpose", action="append", default=[], help="may be given again (default: all of its kind)")
    new.add_argument("--expires", type=moment, metavar="WHEN", help="90d, or 2027-12-31 (default: never)")
    new.add_argument("--from", dest="begins", type=moment, metavar="WHEN", help="not valid before (default: now)")
    add_ring(new)
    recording(new)
    new.set_defaults(do=_new)
    listed = inner.add_parser("list", help="all keys, with what they are for and until when")
    listed.add_argument("--json", action="store_true", help="for programs")
    add_ring(listed)
    listed.set_defaults(do=_list)
    rotate = inner.add_parser("rotate", help="a new key in the place of an active one, which from then on only opens")
    rotate.add_argument("name", metavar="KEY", help="name or kid")
    add_ring(rotate)
    recording(rotate)
    rotate.set_defaults(do=_rotate)
    revoke = inner.add_parser("revoke", help="let a key do nothing more")
    revoke.add_argument("name", metavar="KEY", help="kid, or name for its active key")
    revoke.add_argument("--reason", required=True, help="compromised, superseded or retired")
    add_ring(revoke)
    recording(revoke)
    revoke.set_defaults(do=_revoke)
    export = inner.add_parser("export", help="the public part of a key, in PEM, for others to seal for or verify by")
    export.add_argument("name", metavar="KEY", help="name or kid")
    export.add_argument("--out", type=Path, metavar="FILE", help="default: the terminal")
    add_ring(export)
    export.set_defaults(do=_export)


def add_ring(parser: argparse.ArgumentParser) -> None:
    """The option that names another ring."""
    parser.add_argument(
        "--keys",
        type=Path,
        metavar="FOLDER",
        help="the key ring (default: $SECUREGAN_KEYS or ~/.config/securegan/keys)",
    )


def open_ring(arguments: argparse.Namespace) -> "KeyRing":
    """The ring that the option names."""
    from securegan.security.keys.ring import KeyRing

    return KeyRing.open(arguments.keys)


def moment(text: str) -> datetime:
    """An argument's type: ``90d`` from now, or a day, at its beginning, or a time in UTC."""
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        if re.fullmatch(r"[0-9]{1,5}d", text):
            return now + timedelta(days=int(text[:-1]))
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text} is no time: expected 90d or 2027-12-31") from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _new(arguments: argparse.Namespace) -> None:
    ring = open_ring(arguments)
    with recorded(arguments, "key") as record:
        key = ring.new(arguments.name, arguments.kind, arguments.purpose, arguments.expires, begins=arguments.begins)
        record(key.name, event="new", kid=key.kid, kind=key.kind, purposes=", ".join(key.purposes))
    say(f"key {key.name}, kid {key.kid}, in {ring.folder}: keep a copy where only you can read it")


def _list(arguments: argparse.Namespace) -> None:
    ring = open_ring(arguments)
    if arguments.json:
        sys.stdout.write(json.dumps([{**key.to_json(), "state": key.state()} for key in ring], indent=1) + "\n")
        return
    if not len(ring):
        say(f"{ring.folder} holds no key: securegan keys new NAME makes one")
        return
    from rich.console import Console

    console = Console()
    console = console if console.is_terminal else Console(width=PIPED)
    console.print(_table(ring))


def _rotate(arguments: argparse.Namespace) -> None:
    ring = open_ring(arguments)
    old = ring.find(arguments.name)
    with recorded(arguments, "key") as record:
        key = ring.rotate(arguments.name)
        record(key.name, event="rotated", kid=key.kid, before=old.kid)
    say(f"key {key} is active; {old} only opens what it has sealed, until securegan rewrap or a revocation")


def _revoke(arguments: argparse.Namespace) -> None:
    ring = open_ring(arguments)
    with recorded(arguments, "key") as record:
        key = ring.revoke(arguments.name, arguments.reason)
        record(key.name, event="revoked", kid=key.kid, reason=arguments.reason)
    others = [other for other in ring if other.name == key.name and other.status != "revoked"]
    rest = (
        f"; still of that name: {', '.join(f'{other.kid[:8]} ({other.status})' for other in others)}" if others else ""
    )
    say(f"key {key} is revoked ({key.reason}){rest}")


def _export(arguments: argparse.Namespace) -> None:
    from securegan.security.durable import written

    text = open_ring(arguments).find(arguments.name).pem
    if arguments.out is None:
        sys.stdout.write(text)
        return
    with written(arguments.out, mode=0o644) as file:
        file.write(text.encode())


def _table(ring: "KeyRing") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False, show_edge=False)
    for name in ("name", "kid", "kind", "purposes", "state", "expires", "sealed"):
        justify: Literal["left", "right"] = "right" if name == "sealed" else "left"
        table.add_column(
            name, no_wrap=name not in ("name", "purposes"), overflow="fold", min_width=len(name), justify=justify
        )
    for key in sorted(ring, key=lambda key: (key.name, key.created)):
        state, sealed = key.state(), "" if key.kind == "ed25519" else str(key.sealed)
        shown = Text(state, style=COLOURS[state])
        until = Text(key.reason or _expiry(key))
        table.add_row(Text(key.name), key.kid[:8], key.kind, _purposes(key), shown, until, sealed)
    return table


def _purposes(key: "Key") -> str:
    from securegan.security.keys.key import PURPOSES

    return "all" if set(key.purposes) == set(PURPOSES[key.kind]) else ", ".join(key.purposes)


def _expiry(key: "Key") -> str:
    if key.expires is None:
        return "never"
    left = key.expires - datetime.now(UTC)
    day = f"{key.expires:%Y-%m-%d}"
    return f"{day} ({left.days} d)" if timedelta(0) < left < SOON and key.status == "active" else day
