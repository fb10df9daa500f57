"""``securegan log``: the audit log."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securegan.cli.parser import Parser, positive
from securegan.cli.provenance.options import signer_for, signing, trust_of, trusting
from securegan.cli.provenance.printing import print_json, print_table, table_of
from securegan.cli.terminal import say, shown
from securegan.errors import UserError

if TYPE_CHECKING:
    from securegan.security.provenance.note import Checkpoint
    from securegan.security.provenance.trust import Trust

KINDS = ("training", "release", "review", "approval", "rejection", "key", "trust", "alert", "mended")


def add(log: Parser) -> None:
    """Its actions."""
    actions = log.add_subparsers(required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make an empty log")
    new.add_argument("log", type=Path, metavar="LOG", help="a new folder")
    new.add_argument("--origin", required=True, help="its name for the world, such as example.org/images")
    signing(new, "--key", "the key that signs it")
    new.set_defaults(do=_new)
    show = actions.add_parser("show", help="verify a log and list its entries")
    show.add_argument("--kind", choices=KINDS, help="only entries of this kind")
    show.add_argument("--last", type=positive, metavar="N", help="only the last N of them")
    show.add_argument("--json", action="store_true", help="print an entry a line, as JSON")
    prove = actions.add_parser("prove", help="prove to others that an entry is in it, or that it only grew")
    what = prove.add_mutually_exclusive_group(required=True)
    what.add_argument("--entry", type=int, metavar="INDEX", help="as securegan log show numbers them")
    what.add_argument("--file", type=Path, help="the newest entry about the bytes of this file")
    what.add_argument("--since", type=Path, metavar="CHECKPOINT", help="that it goes on from this one")
    prove.add_argument("--out", type=Path, required=True, metavar="FILE", help="for the proof")
    export = actions.add_parser("export", help="verify a log and write it for an auditor")
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="of the kind .json or .csv")
    verify = actions.add_parser("verify", help="check a log, or a proof about one; exit code 1 where it fails")
    verify.add_argument("--known", type=Path, nargs="+", default=[], metavar="CHECKPOINT", help="kept from before")
    verify.add_argument("--json", action="store_true", help="print JSON")
    for action, do in ((show, _show), (prove, _prove), (export, _export), (verify, _verify)):
        action.add_argument(
            "log",
            type=Path,
            metavar="LOG",
            help="its folder" if action is not verify else "its folder, or the file of a proof",
        )
        trusting(action)
        action.set_defaults(do=do)


def _new(arguments: argparse.Namespace) -> None:
    from securegan.security.provenance.log import Log
    from securegan.security.provenance.note import verifier_key

    signer = signer_for(arguments, "log")
    Log.create(arguments.log, arguments.origin, signer)
    say(f"{arguments.log}, signed by {verifier_key(arguments.origin, signer.public)}")


def _show(arguments: argparse.Namespace) -> None:
    rows = _entries(arguments, arguments.kind)[-(arguments.last or 0) :]
    if arguments.json:
        for index, entry in rows:
            sys.stdout.write(json.dumps({"index": index, **entry}) + "\n")
        return
    from rich.markup import escape

    table = table_of("entry", "time", "kind", "name", "subject", "details")
    for index, entry in rows:
        details = ", ".join(f"{key}: {value}" for key, value in entry.get("details", {}).items())
        name, subject = entry.get("name", ""), entry.get("subject", "")[:16]
        table.add_row(str(index), entry["time"], entry["kind"], escape(shown(name)), subject, escape(shown(details)))
    print_table(table)


def _prove(arguments: argparse.Namespace) -> None:
    from securegan.security.durable import written
    from securegan.security.provenance.files import digest_file
    from securegan.security.provenance.log import Log
    from securegan.security.provenance.proofs import prove_consistency, prove_inclusion

    trust, log, index = trust_of(arguments), Log(arguments.log), arguments.entry
    if arguments.since is not None:
        proof = prove_consistency(log, trust, _checkpoint(arguments.since, trust))
    else:
        if arguments.file is not None:
            try:
                digest = digest_file(arguments.file)
            except OSError as error:
                raise UserError(f"--file={arguments.file} cannot be read: {error.strerror}.") from error
            entries = _entries(arguments, None)
            about = [number for number, entry in entries if digest in (entry.get("subject"), entry.get("sidecar"))]
            if not about:
                raise UserError(f"the log has no entry about {arguments.file}.")
            index = about[-1]
        proof = prove_inclusion(log, trust, index)
    with written(arguments.out, mode=0o644) as file:
        file.write(proof)
    say(f"{arguments.out}: check it with securegan log verify")


def _export(arguments: argparse.Namespace) -> None:
    from securegan.security.durable import written
    from securegan.security.provenance import exporting

    if arguments.out.suffix not in exporting.FORMATS:
        raise UserError(f"--out={arguments.out} is none of {', '.join(exporting.FORMATS)}.")
    with written(arguments.out, mode=0o644) as file:
        number = exporting.write(arguments.log, trust_of(arguments), arguments.out.suffix, file)
    say(f"{number:,} entries in {arguments.out}")


def _verify(arguments: argparse.Namespace) -> None:
    from securegan.security.errors import AuthenticationError, PolicyError

    trust = trust_of(arguments)
    try:
        known = [_checkpoint(path, trust) for path in arguments.known]
        said = (
            _checked(arguments.log, trust, known)
            if arguments.log.is_dir()
            else _proof_checked(arguments.log, trust, known)
        )
    except (AuthenticationError, PolicyError) as error:
        if arguments.json:
            print_json({"acceptable": False, "reason": str(error)})
        else:
            say(f"{error}")
        sys.exit(1)
    if arguments.json:
        print_json({"acceptable": True, **said})
    else:
        for name, value in said.items():
            told = ", ".join(f"{count} {kind}" for kind, count in value.items()) if name == "kinds" else value
            say(f"{name}: {told}")


def _checked(folder: Path, trust: "Trust", known: "Sequence[Checkpoint]") -> dict[str, Any]:
    from securegan.security.provenance.auditing import audit
    from securegan.security.provenance.log import Log
    from securegan.security.provenance.memory import Memory

    found = audit(Log(folder), trust, Memory(), known)
    return {
        "log": found.checkpoint.origin,
        "entries": found.checkpoint.size,
        "root": found.checkpoint.root.hex(),
        "signer": found.signer.name,
        "kinds": dict(found.kinds),
        "unsigned bytes": found.unsigned,
    }


def _proof_checked(path: Path, trust: "Trust", known: "Sequence[Checkpoint]") -> dict[str, Any]:
    from securegan.security.provenance import proofs
    from securegan.security.provenance.files import read_given

    proof = read_given(path, proofs.LIMIT, "the proof")
    if proof.startswith(proofs.MAGIC.encode()):
        found = proofs.check_inclusion(proof, trust, path)
        entry = found.entry.model_dump(exclude_none=True)
        return {"log": found.checkpoint.origin, "entries": found.checkpoint.size, "index": found.index, "entry": entry}
    if len(known) != 1:
        raise UserError(f"{path} is a proof that a log goes on from a checkpoint: give that one with --known.")
    newer = proofs.check_consistency(proof, trust, known[0], path)
    return {"log": newer.origin, "from": known[0].size, "entries": newer.size, "root": newer.root.hex()}


def _entries(arguments: argparse.Namespace, kind: str | None) -> list[tuple[int, dict[str, Any]]]:
    """Index and fields of a log's entries, which is verified and remembered."""
    from securegan.security.provenance.auditing import audit
    from securegan.security.provenance.log import Log
    from securegan.security.provenance.memory import Memory

    found: list[tuple[int, dict[str, Any]]] = []

    def see(index: int, entry: Any) -> None:
        if kind is None or entry.kind == kind:
            found.append((index, entry.model_dump(exclude_none=True)))

    audit(Log(arguments.log), trust_of(arguments), Memory(), see=see)
    return found


def _checkpoint(path: Path, trust: "Trust") -> "Checkpoint":
    from securegan.security.provenance import note
    from securegan.security.provenance.auditing import log_keys
    from securegan.security.provenance.files import read_given

    return note.read_checkpoint(read_given(path, note.LIMIT, "the checkpoint"), log_keys(trust), path)[0]
