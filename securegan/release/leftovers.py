"""Files of images that a release's log does not know: what a killed process left, or signs that the log was cut."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from securegan.errors import UserError
from securegan.release.plan import FOLDERS
from securegan.runs.sampling import TOGETHER
from securegan.security.envelope.files import SUFFIX as SEALED
from securegan.security.provenance.sidecar import SUFFIX

FORWARDS: Final = 2  # that can have files and no entries yet: one that waits for the log while the next is written
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
