"""``securegan verify`` and ``securegan sign``."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securegan.cli.parser import Commands
from securegan.cli.provenance.options import HOLDS, signer_for, signing, trust_of, trusting
from securegan.cli.provenance.printing import print_json, print_table, table_of
from securegan.cli.terminal import shown
from securegan.errors import UserError

if TYPE_CHECKING:
    from securegan.security.provenance.authenticity import Logged
    from securegan.security.provenance.inspection import Finding
    from securegan.security.provenance.signing import Signer
    from securegan.security.provenance.statement import ImageOrigin
    from securegan.security.provenance.trust import Trust

ROWS = 40  # of a table; beyond them, only what is not acceptable


def add(commands: Commands) -> None:
    """Both commands."""
    verify = commands.add_parser("verify", help="check signatures of images and folders; exit code 1 where one fails")
    verify.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="images, and folders with all in them")
    trusting(verify)
    verify.add_argument("--log", type=Path, metavar="LOG", help="what of a compromised key was logged in time, stands")
    verify.add_argument("--as", dest="purpose", choices=HOLDS, help="what a folder must have been signed for")
    verify.add_argument(
        "--anchors", type=Path, metavar="PEM", help="by which every image's C2PA manifest must be trusted"
    )
    verify.add_argument(
        "--exact", action="store_true", help="the same pixels in other bytes, or another name, are not enough"
    )
    verify.add_argument("--json", action="store_true", help="print JSON")
    verify.add_argument("--all", action="store_true", help=f"list every image, even beyond {ROWS}")
    verify.set_defaults(do=_verify)
    sign = commands.add_parser("sign", help="sign images, each in a sidecar, or whole folders")
    sign.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="images, or with --as, folders")
    signing(sign, "--key", "the key that signs")
    sign.add_argument("--as", dest="purpose", choices=HOLDS, help="sign each PATH as one folder of this")
    for name, what in (("model", "manifest of the model"), ("config", "configuration"), ("dataset", "data set")):
        sign.add_argument(f"--{name}", metavar="SHA256", help=f"of the {what} that it was made with")
    sign.add_argument("--c2pa", type=Path, metavar="CHAIN", help="put a C2PA manifest into each image first")
    sign.add_argument("--run", metavar="NAME", help="of the run that made it")
    sign.add_argument("--seed", type=int, help="of what was drawn")
    sign.set_defaults(do=_sign)


def _verify(arguments: argparse.Namespace) -> None:
    from securegan.security.provenance.inspection import inspect

    trust = trust_of(arguments)
    logged = None if arguments.log is None else _logged(arguments.log, trust)
    rows: list[dict[str, Any]] = []
    start, counts, bad = time.perf_counter(), Counter[str](), 0
    anchors = None if arguments.anchors is None else _certificates(arguments.anchors)
    for finding in inspect(arguments.paths, trust, purpose=arguments.purpose, logged=logged, anchors=anchors):
        counts[finding.found.verdict] += 1
        acceptable = _acceptable(finding, arguments.exact)
        bad += not acceptable
        if arguments.json or arguments.all or not acceptable or len(rows) < ROWS:
            rows.append(_row(finding, acceptable))
    seconds = time.perf_counter() - start
    number = counts.total()
    if arguments.json:
        store = {"name": trust.contents.name, "version": trust.contents.version}
        speed = {"seconds": round(seconds, 3), "per_second": round(number / seconds)}
        print_json(
            {"acceptable": not bad, "checked": number, "counts": counts, **speed, "trust": store, "results": rows}
        )
    else:
        listed = rows if arguments.all or number <= ROWS else [row for row in rows if not row["acceptable"]]
        _print_findings(listed)
        said = ", ".join(f"{count:,} {verdict}" for verdict, count in counts.most_common())
        sys.stdout.write(f"{number:,} checked: {said} ({number / seconds:,.0f} a second)\n")
    if bad:
        sys.exit(1)


def _acceptable(finding: "Finding", exact: bool) -> bool:
    from securegan.security.provenance.verdicts import Verdict

    as_signed = finding.found.verdict is Verdict.BYTE_EXACT and finding.other_name is None
    return finding.found.verdict.acceptable and (as_signed or not exact)


def _row(finding: "Finding", acceptable: bool) -> dict[str, Any]:
    found = finding.found
    return {
        "path": str(finding.path),
        "kind": "directory" if finding.directory else "image",
        "verdict": str(found.verdict),
        "acceptable": acceptable,
        "signer": None if found.signer is None else found.signer.name,
        "kid": None if found.signer is None else found.signer.key.kid,
        "reason": "; ".join(filter(None, (found.reason, finding.other_name and f"signed as {finding.other_name}"))),
        "signed_name": found.statement.subjects[0].name if found.statement and not finding.directory else None,
        "origin": None
        if found.statement is None or not acceptable
        else found.statement.origin.model_dump(exclude_none=True),
    }


def _print_findings(rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    from rich.markup import escape

    table = table_of("path", "verdict", "signer", "signed", "reason")
    for row in rows:
        colour = "green" if row["acceptable"] else "red"
        signed = (row["origin"] or {}).get("time", "")
        table.add_row(
            escape(shown(row["path"])),
            f"[{colour}]{row['verdict']}[/]",
            escape(row["signer"] or ""),
            signed,
            escape(shown(row["reason"])),
        )
    print_table(table)


def _sign(arguments: argparse.Namespace) -> None:
    from pydantic import ValidationError

    from securegan import __version__
    from securegan.security.provenance.directory import sign_directory
    from securegan.security.provenance.sidecar import sign_file
    from securegan.security.provenance.statement import DirectoryOrigin, ImageOrigin

    signer = signer_for(arguments, arguments.purpose or "image")
    facts = {name: getattr(arguments, name) for name in ("model", "config", "dataset", "run", "seed")}
    try:
        facts["software"] = f"securegan {__version__}"
        image = ImageOrigin(**facts)
        folder = DirectoryOrigin(**facts, holds=arguments.purpose) if arguments.purpose else None
    except ValidationError as error:
        said = error.errors()[0]
        raise UserError(f"--{said['loc'][0]}={said['input']} cannot be signed: {said['msg']}.") from error
    for path in arguments.paths:
        if path.is_dir() != (folder is not None):
            raise UserError(f"{path} is {'a folder: say --as what' if path.is_dir() else 'no folder'}.")
        if folder is None and arguments.c2pa is not None:
            _embed(path, signer, _certificates(arguments.c2pa), image)
        where = sign_file(path, signer, image) if folder is None else sign_directory(path, signer, folder)
        sys.stdout.write(f"{shown(str(where))}\n")


def _embed(path: Path, signer: "Signer", chain: str, origin: "ImageOrigin") -> None:
    """Put a C2PA manifest into an image file."""
    from securegan.security.durable import written
    from securegan.security.provenance.c2pa import embed
    from securegan.security.provenance.files import MAX_IMAGE, read_given

    data = embed(read_given(path, MAX_IMAGE, "the image"), path.name, signer, chain, origin)
    with written(path, replace=True, mode=path.stat().st_mode & 0o777) as file:
        file.write(data)


def _certificates(path: Path) -> str:
    from securegan.security.provenance.files import read_given

    return read_given(path, 2**20, "the file of certificates").decode(errors="replace")


def _logged(folder: Path, trust: "Trust") -> "Logged":
    """When the log first spoke of a signature, by the digest of the sidecar or manifest that bears it."""
    from securegan.security.provenance.auditing import audit
    from securegan.security.provenance.log import Log
    from securegan.security.provenance.memory import Memory
    from securegan.security.spelling import moment

    first: dict[str, datetime] = {}

    def see(index: int, entry: Any) -> None:
        if entry.kind in ("release", "approval", "training"):
            for digest in {entry.subject, entry.sidecar} - {None}:
                first.setdefault(digest, moment(entry.time))

    audit(Log(folder), trust, Memory(), see=see)
    return first.get
