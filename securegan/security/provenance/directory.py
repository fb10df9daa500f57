"""A signed directory: ``manifest.sg.json`` names every file in it by its digest, and there is nothing else.

For what is more than one file: exported weights, checkpoints, data sets, runs, releases. Links, pipes and devices have
no place in one. What is to be loaded is copied first, checked while it is copied, and loaded from the copy: nobody can
change a file between its check and its use.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from securegan.errors import UserError
from securegan.security.durable import written
from securegan.security.provenance import dsse, statement
from securegan.security.provenance.authenticity import Logged, Rejected, authenticate
from securegan.security.provenance.files import digest_file, open_regular, read_regular
from securegan.security.provenance.sidecar import Verification
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.statement import DirectoryOrigin, Statement, Subject
from securegan.security.provenance.trust import Purpose, Trust
from securegan.security.provenance.verdicts import Verdict

MANIFEST = "manifest.sg.json"
LIMIT = 96 * 2**20  # bytes of a manifest: some half a million files
SHOWN = 100  # differences that are listed; a folder may hold any number
PIECE = 2**20  # bytes copied at once
MAX_DEPTH = 100  # of folders within folders


@dataclass(frozen=True)
class Differences(Verification):
    """Of a directory: which files are not as they were signed, are missing, or have no place there."""

    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


def sign_directory(folder: Path, signer: Signer, origin: DirectoryOrigin) -> Path:
    """Write the manifest of all files in ``folder``; its path. Raises UserError where one has no place there."""
    try:
        found = [Subject(name, digest_file(path, follow=False)) for name, path in sorted(_files(folder))]
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} cannot be signed: {error}.") from error
    if not found:
        raise UserError(f"{folder} cannot be signed: there is no file in it.")
    manifest = dsse.sign(statement.PAYLOAD, Statement(tuple(found), origin).payload(), signer)
    with written(folder / MANIFEST, replace=True, mode=0o644) as file:
        file.write(manifest)
    return folder / MANIFEST


def verify_directory(
    folder: Path, trust: Trust, purpose: Purpose, *, now: datetime | None = None, logged: Logged | None = None
) -> Differences:
    """Whether the files of ``folder`` are those of its manifest, all and no others, signed for ``purpose``."""
    found, files, _ = _opened(folder, trust, purpose, now, logged)
    if found.statement is None:
        return found
    changed, missing = [], []
    for subject in found.statement.subjects:
        path = files.pop(subject.name, None)
        if path is None:
            missing.append(subject.name)
            continue
        try:
            if digest_file(path, follow=False) != subject.sha256:
                changed.append(subject.name)
        except OSError:
            changed.append(subject.name)
    return _differences(found, changed, missing, files)


def copy_verified(
    folder: Path, to: Path, trust: Trust, purpose: Purpose, *, now: datetime | None = None, logged: Logged | None = None
) -> Statement:
    """Copy ``folder`` to the new folder ``to``, if every byte copied is as it was signed; else there is no ``to``.

    Raises PolicyError where it is not, UserError where ``to`` exists or cannot be written.
    """
    if os.path.lexists(to):
        raise UserError(f"{to} exists already: choose another name, or remove it first.")
    found, files, manifest = _opened(folder, trust, purpose, now, logged)
    if found.statement is None:
        found.require(folder)
    assert found.statement is not None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{to.name[:64]}.", dir=to.parent))
        try:
            changed, missing = [], []
            for subject in found.statement.subjects:
                path = files.pop(subject.name, None)
                if path is None:
                    missing.append(subject.name)
                elif _copied(path, temporary / subject.name) != subject.sha256:
                    changed.append(subject.name)
            _differences(found, changed, missing, files).require(folder)
            (temporary / MANIFEST).write_bytes(manifest)  # as it was verified; to be verified again by who likes
            temporary.rename(to)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be copied to {to}: {error.strerror}.") from error
    return found.statement


def _opened(
    folder: Path, trust: Trust, purpose: Purpose, now: datetime | None, logged: Logged | None
) -> tuple[Differences, dict[str, Path], bytes]:
    """What the manifest says, its statement there only where it counts; the files that are there by name; its bytes."""
    try:
        manifest = read_regular(folder / MANIFEST, LIMIT)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return Differences(Verdict.UNSIGNED if missing else Verdict.REFUSED, f"no manifest: {error.strerror}"), {}, b""
    if len(manifest) > LIMIT:
        return Differences(Verdict.REFUSED, f"a manifest of more than {LIMIT} bytes"), {}, b""
    try:
        signer, said = authenticate(manifest, trust, DirectoryOrigin, purpose, now=now, logged=logged)
        assert isinstance(said.origin, DirectoryOrigin)
        if said.origin.holds != purpose:
            return (
                Differences(Verdict.WRONG_PURPOSE, f"it was signed as {said.origin.holds}, not as {purpose}"),
                {},
                b"",
            )
        names = {subject.name for subject in said.subjects}
        if len(names) != len(said.subjects) or MANIFEST in names:
            return Differences(Verdict.REFUSED, "its manifest names a file twice, or itself"), {}, b""
        files: dict[str, Path] = {}
        for name, path in _files(folder):
            files[name] = path
            if len(files) > len(names) + SHOWN:
                break
    except Rejected as error:
        return Differences(error.verdict, str(error)), {}, b""
    except ValueError as error:
        return Differences(Verdict.MODIFIED, str(error)), {}, b""
    except OSError as error:
        return Differences(Verdict.REFUSED, f"it cannot be read: {error.strerror}"), {}, b""
    return Differences(Verdict.BYTE_EXACT, "", signer, said), files, manifest


def _differences(found: Differences, changed: list[str], missing: list[str], extra: Mapping[str, Path]) -> Differences:
    parts = {"changed": changed, "missing": missing, "extra": sorted(extra)}
    said = [f"{len(names)} {part}: {', '.join(names[:3])}" for part, names in parts.items() if names]
    if not said:
        return found
    return Differences(
        Verdict.MODIFIED, "; ".join(said), found.signer, found.statement,
        **{part: tuple(names[:SHOWN]) for part, names in parts.items()},
    )  # fmt: skip


def _files(folder: Path, prefix: str = "") -> Iterator[tuple[str, Path]]:
    """Names and paths of the files in ``folder``. Raises ValueError for what is no file, and OSError."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.is_symlink():
                raise ValueError(f"{name!r} is a link")
            if entry.is_dir(follow_symlinks=False):
                if name.count("/") >= MAX_DEPTH:
                    raise ValueError(f"folders within folders, more than {MAX_DEPTH}")
                yield from _files(Path(entry.path), f"{name}/")
            elif not entry.is_file(follow_symlinks=False):
                raise ValueError(f"{name!r} is no file")
            elif name != MANIFEST:
                yield name, Path(entry.path)


def _copied(path: Path, to: Path) -> str:
    """Copy a file; the SHA-256 of what was written."""
    found = hashlib.sha256()
    to.parent.mkdir(parents=True, exist_ok=True)
    with open_regular(path, follow=False) as source, to.open("xb") as copy:
        while piece := source.read(PIECE):
            found.update(piece)
            copy.write(piece)
    return found.hexdigest()
