"""Image files that the user names, or that lie in folders and archives, put to the gate one by one."""

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from securegan.data.decode import BadImage
from securegan.data.sources import SIDECAR, Files, open_files
from securegan.errors import UserError
from securegan.release.intake import Finding, Gate
from securegan.security.provenance.files import read_regular
from securegan.security.provenance.sidecar import LIMIT


def judged(gate: Gate, paths: Iterable[Path]) -> Iterator[Finding]:
    """What the gate says of every image, as it comes to it.

    Raises UserError for a path that cannot be read, or that holds nothing to judge.
    """
    for path in paths:
        if path.is_dir() or _is_archive(path):
            found = 0
            for finding in _within(gate, path, open_files(str(path))):
                found += 1
                yield finding
            if not found:
                raise UserError(f"{path} holds no image to judge (hidden files and other suffixes are passed over).")
        else:
            yield gate.check(str(path), _content(path, gate.limits.bytes), _beside(path))


def _is_archive(path: Path) -> bool:
    """By its name: an image with an archive behind it is an image."""
    return path.suffix.lower() == ".zip" and path.is_file() and zipfile.is_zipfile(path)


def _within(gate: Gate, path: Path, files: Files) -> Iterator[Finding]:
    sidecars = {entry.name for entry in files.sidecars}
    for bad in files.refused:
        yield Finding(f"{path}/{bad.name}", False, bad.reason, "")
    for entry in sorted(files.images):
        name = f"{path}/{entry.name}"
        beside = entry.name + SIDECAR
        try:
            data, sidecar = files.read(entry.name), files.read(beside) if beside in sidecars else None
        except BadImage as bad:
            yield Finding(name, False, str(bad), "")
            continue
        yield gate.check(name, data, sidecar)


def _content(path: Path, limit: int) -> bytes:
    """At most one byte more than the limit, which the gate then refuses."""
    try:
        return read_regular(path, limit)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def _beside(path: Path) -> bytes | None:
    try:
        return read_regular(path.with_name(path.name + SIDECAR), LIMIT)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}{SIDECAR} cannot be read: {error.strerror}.") from error
