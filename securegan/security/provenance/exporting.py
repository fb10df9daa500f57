"""A log for an auditor: everything in one file, as JSON with what it takes to check it, or as CSV to be read."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from securegan.security.provenance.auditing import Audit, audit
from securegan.security.provenance.log import Entry, Log
from securegan.security.provenance.memory import Memory
from securegan.security.provenance.note import verifier_key
from securegan.security.provenance.trust import Trust

COLUMNS = ("index", "time", "kind", "name", "subject", "sidecar", "details")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # at the beginning of a cell that a spreadsheet would compute


def write(folder: Path, trust: Trust, suffix: str, file: BinaryIO) -> int:
    """Verify the log of ``folder`` while it is written to ``file``; the number of its entries.

    Raises what ``audit`` raises; what was written then is to be thrown away.
    """
    see, end = FORMATS[suffix](file)
    found = audit(Log(folder), trust, Memory(), see=see)
    end(found)
    return found.checkpoint.size


def _json(file: BinaryIO) -> "tuple[Callable[[int, Entry], object], Callable[[Audit], object]]":
    file.write(b'{"entries":[')

    def see(index: int, entry: Entry) -> None:
        file.write((b",\n" if index else b"\n") + entry.line())

    def end(found: Audit) -> None:
        vkey = verifier_key(found.checkpoint.origin, found.signer.key)
        said = {"checkpoint": found.note.decode(), "verifier": vkey}
        file.write(b"],\n" + json.dumps(said)[1:].encode() + b"\n")

    return see, end


def _csv(file: BinaryIO) -> "tuple[Callable[[int, Entry], object], Callable[[Audit], object]]":
    def row(*cells: object) -> None:
        text = io.StringIO()
        csv.writer(text).writerow([f"'{cell}" if str(cell).startswith(FORMULA) else cell for cell in cells])
        file.write(text.getvalue().encode())

    row(*COLUMNS)

    def see(index: int, entry: Entry) -> None:
        digests = entry.subject or "", entry.sidecar or ""
        row(index, entry.time, entry.kind, entry.name or "", *digests, json.dumps(entry.details))

    return see, lambda found: None


FORMATS = {".json": _json, ".csv": _csv}
