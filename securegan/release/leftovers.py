"""The files of a release against its log: what a killed process left, and signs that one or the other is another's."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from securegan.errors import UserError
from securegan.release.finishing import object_of
from securegan.release.plan import FOLDERS, Plan
from securegan.runs.sampling import TOGETHER
from securegan.security.envelope.files import SUFFIX as SEALED
from securegan.security.envelope.files import read_header
from securegan.security.provenance.files import read_given
from securegan.security.provenance.log import Entry
from securegan.security.provenance.sidecar import LIMIT, SUFFIX

FORWARDS: Final = 2  # that can have files and no entries yet: one that waits for the log while the next is written
NOWHERE, IN_IMAGES, IN_REVIEW = range(3)  # where the log has an image; one that was laid aside may have been approved
OWN = re.compile(
    rf"(?P<hidden>\.)?(?P<number>\d{{6,}})\.png({re.escape(SUFFIX)})?({re.escape(SEALED)})?(?(hidden)(\.\w+)?)"
)


def require_continued(folder: Path, first: int, *, begun: bool) -> None:
    """Raises UserError where there are files of images beyond those that a killed process can have left unlogged.

    Args: first: the image after the last that the log knows; begun: whether it knows of the release at all, without
    which there are no files.
    """
    stop = first - first % TOGETHER + FORWARDS * TOGETHER if begun else 0
    for part in FOLDERS.values():
        for path, number, hidden in _own_files(folder / part):
            if number >= stop and not hidden:
                ends = f"ends before image {first}" if begun else "is missing or has no entry of it"
                raise UserError(
                    f"{path} is there, but the log of the release in {folder} {ends}, and no process that was killed "
                    "leaves such a file: the log was deleted, cut or brought back from an older state; restore its "
                    "newest one (nothing was changed)."
                )


def require_files(folder: Path, plan: Plan, folders: bytearray, first: Entry | None) -> None:
    """Raises UserError where images that the log knows are not in ``folder``: then the log, or the id, is another's.

    So it does for a link in the place of a folder.

    Args: folders: where each must be; first: of the released ones, whose very file must be the one that was logged.
    """
    for part in FOLDERS.values():
        if (folder / part).is_symlink():
            raise UserError(f"{folder / part} is a link: a release lies in its own folder alone.")
    left, beside = bytearray(folders), SEALED if plan.recipients else ""
    for kind, part in FOLDERS.items():
        for path, number, hidden in _own_files(folder / part):
            known = not hidden and number < len(left) and path.name == f"{number:06d}.png{beside}"
            if known and (kind == "release" or left[number] == IN_REVIEW):
                left[number] = NOWHERE
    gone = next((number for number, place in enumerate(left) if place != NOWHERE), None)
    if gone is not None:
        raise UserError(
            f"{folder} does not hold image {gone}, which stands in the log of its release: either the files or the log "
            "and release.json are another release's; restore them (nothing was changed)."
        )
    if first is not None:
        path = folder / FOLDERS["release"] / f"{first.name}{beside if plan.recipients else SUFFIX}"
        if plan.recipients:
            same = read_header(path).facts.object_id == object_of(plan, str(first.name))
        else:
            same = hashlib.sha256(read_given(path, LIMIT, "the sidecar")).hexdigest() == first.sidecar
        if not same:
            raise UserError(
                f"{path} is not the one of the release's log: either the files or the log and release.json are another "
                "release's; restore them (nothing was changed)."
            )


def sweep(folder: Path, first: int) -> None:
    """Remove what a killed process left: files of images from ``first`` on, and those that never got their name.

    None but those that a release makes: a reviewer may keep notes beside them.
    """
    for path in [path for path, number, hidden in _own_files(folder) if hidden or number >= first]:
        path.unlink()


def _own_files(folder: Path) -> Iterator[tuple[Path, int, bool]]:
    """Files that a release made, the image's number, and whether they never got their name; none behind a link."""
    if folder.is_symlink() or not folder.is_dir():
        return
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if found := OWN.fullmatch(entry.name):
                    yield Path(entry.path), int(found["number"]), bool(found["hidden"])
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}.") from error
