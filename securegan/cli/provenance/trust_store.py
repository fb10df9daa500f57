"""``securegan trust``: whose signatures count."""

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

from securegan.cli.parser import Parser, positive
from securegan.cli.provenance.options import HOLDS, signer_for, signing, trust_of
from securegan.cli.provenance.printing import print_json, print_table, table_of
from securegan.cli.recording import recorded, recording
from securegan.cli.terminal import say, shown
from securegan.errors import UserError

PURPOSES = (*HOLDS, "log")


def add(trust: Parser) -> None:
    """Its actions."""
    actions = trust.add_subparsers(required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make an empty store, signed by a root key")
    new.add_argument("store", type=Path, metavar="STORE")
    new.add_argument("--name", default="trust", help="of the store (default: %(default)s)")
    new.set_defaults(do=_new)
    add_key = actions.add_parser("add", help="add a public key")
    add_key.add_argument("store", type=Path, metavar="STORE")
    add_key.add_argument("public", type=Path, metavar="PEM", help="as securegan keys export writes it")
    add_key.add_argument("--name", required=True, help="by which people know it")
    add_key.add_argument("--for", dest="purposes", nargs="+", choices=PURPOSES, required=True, help="what it may sign")
    add_key.add_argument("--valid", type=positive, default=365, metavar="DAYS", help="from now (default: %(default)s)")
    add_key.set_defaults(do=_add)
    revoke = actions.add_parser("revoke", help="take the trust in a key back")
    revoke.add_argument("store", type=Path, metavar="STORE")
    revoke.add_argument("name", metavar="KEY", help="its name, or the beginning of its kid")
    revoke.add_argument(
        "--reason",
        choices=["superseded", "compromised"],
        required=True,
        help="compromised: nothing it signed stands but what a log held before",
    )
    revoke.add_argument("--at", metavar="TIME", help="such as 2026-11-21T20:00:00Z (default: now)")
    revoke.set_defaults(do=_revoke)
    for action in (new, add_key, revoke):
        signing(action, "--root", "the root key, which is best kept on a machine without a network")
        action.add_argument(
            "--days", type=positive, default=365, help="until it must be renewed (default: %(default)s)"
        )
        recording(action)
    show = actions.add_parser("show", help="verify a store and list its keys")
    show.add_argument("store", type=Path, nargs="?", metavar="STORE", help="default: as securegan verify")
    show.add_argument("--root", type=Path, metavar="PEM", help="the root's public key, for this once")
    show.add_argument("--store-name", metavar="NAME", help="that the store must have, here from now on")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(do=_show)
    certify = actions.add_parser("certify", help="make the certificate that C2PA wants of a key that signs images")
    certify.add_argument("public", type=Path, metavar="PEM", help="as securegan keys export writes it")
    certify.add_argument("--name", required=True, help="of who signs")
    certify.add_argument("--valid", type=positive, default=365, metavar="DAYS", help="from now (default: %(default)s)")
    certify.add_argument("--out", type=Path, required=True, metavar="CHAIN", help="with CHAIN.anchors.pem beside it")
    signing(certify, "--root", "the root key")
    certify.set_defaults(do=_certify)
    pin = actions.add_parser("pin", help="believe a root from now on")
    pin.add_argument("root", type=Path, metavar="PEM", help="its public key, from somebody you believe")
    pin.set_defaults(do=_pin)


def _new(arguments: argparse.Namespace) -> None:
    from securegan.security.provenance.memory import Memory
    from securegan.security.provenance.trust import new_store

    root = signer_for(arguments, "trust")
    with recorded(arguments, "trust") as record:
        trust = new_store(arguments.store, arguments.name, root, Memory(), arguments.days)
        record(arguments.name, event="new", version=trust.contents.version, root=root.kid)
    pem = arguments.store.with_suffix(".root.pem")
    pem.write_text(root.public.pem())
    say(
        f"{arguments.store}, under the root {root.kid}, whose public key is in {pem}. It is pinned here; others pin it "
        "with securegan trust pin, once they have it from somebody they believe."
    )


def _add(arguments: argparse.Namespace) -> None:
    from securegan.security.provenance.memory import Memory
    from securegan.security.provenance.signing import read_public
    from securegan.security.provenance.trust import change_store, trusted_key

    start = datetime.now(UTC)
    until = start + timedelta(days=arguments.valid)
    key = trusted_key(arguments.name, read_public(arguments.public), arguments.purposes, start, until)
    root = signer_for(arguments, "trust")
    with recorded(arguments, "trust") as record:
        trust = change_store(arguments.store, root, Memory(), lambda keys: [*keys, key], arguments.days)
        told = {"kid": key.key.kid, "purposes": ", ".join(key.purposes)}
        record(key.name, event="added", version=trust.contents.version, **told)
    say(f"{arguments.store}: version {trust.contents.version}, with {key.name} ({key.key.kid})")


def _revoke(arguments: argparse.Namespace) -> None:
    from securegan.security.provenance.memory import Memory
    from securegan.security.provenance.requirement import given_store
    from securegan.security.provenance.trust import change_store, revoke
    from securegan.security.spelling import moment

    try:
        at = moment(arguments.at) if arguments.at else datetime.now(UTC)
    except ValueError as error:
        raise UserError(f"--at={arguments.at} is no time: it reads 2026-11-21T20:00:00Z.") from error
    memory = Memory()
    key = given_store(arguments.store, memory).find(arguments.name)
    root = signer_for(arguments, "trust")
    with recorded(arguments, "trust") as record:
        trust = change_store(
            arguments.store, root, memory, lambda keys: revoke(keys, key.key.kid, arguments.reason, at), arguments.days
        )
        told = {"kid": key.key.kid, "reason": arguments.reason}
        record(key.name, event="revoked", version=trust.contents.version, **told)
    say(f"{arguments.store}: version {trust.contents.version}, {key.name} revoked as {arguments.reason}")


def _show(arguments: argparse.Namespace) -> None:
    trust = trust_of(argparse.Namespace(trust=arguments.store, root=arguments.root, store_name=arguments.store_name))
    contents = trust.contents
    if arguments.json:
        keys = [{"kid": kid, **key.model_dump(exclude_none=True)} for kid, key in trust.keys.items()]
        print_json(contents.model_dump() | {"keys": keys})
        return
    from rich.markup import escape

    table = table_of("key", "kid", "for", "from", "until", "revoked")
    for kid, key in trust.keys.items():
        revoked = "" if key.revoked is None else f"{key.revoked.reason}, {key.revoked.at}"
        table.add_row(escape(shown(key.name)), kid, ", ".join(key.purposes), key.since, key.until, f"[red]{revoked}[/]")
    print_table(table)
    say(f"{contents.name}, version {contents.version} of {contents.time}, good until {contents.until}")


def _certify(arguments: argparse.Namespace) -> None:
    from securegan.security.durable import written
    from securegan.security.provenance.certificates import authority, certificate
    from securegan.security.provenance.signing import read_public

    root, public = signer_for(arguments, "trust"), read_public(arguments.public)
    anchors = arguments.out.with_name(f"{arguments.out.name}.anchors.pem")
    made = {arguments.out: certificate(root, public, arguments.name, arguments.valid), anchors: authority(root)}
    for path, text in made.items():
        with written(path, mode=0o644) as file:
            file.write(text.encode())
    say(f"{arguments.out} for securegan sign --c2pa, {anchors} for securegan verify --anchors")


def _pin(arguments: argparse.Namespace) -> None:
    from securegan.security.provenance.memory import Memory
    from securegan.security.provenance.signing import read_public

    root, memory = read_public(arguments.root), Memory()
    memory.pin(root)
    say(f"the root {root.kid} is believed here from now on ({memory.path})")
