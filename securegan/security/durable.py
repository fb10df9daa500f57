"""Files that appear under their name whole, flushed to the disk, and readable by nobody else."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from securegan.errors import UserError


@contextmanager
def written(path: Path, *, replace: bool = False, mode: int = 0o600, flush: bool = True) -> Iterator[BinaryIO]:
    """A file to write, which gets the name ``path`` where the block ends well and is gone where it does not.

    ``flush`` waits for the disk before and after. Raises UserError where ``path`` exists and ``replace`` is false, or
    the disk refuses; what the block raises passes through, but for OSError.
    """
    refuse_existing(path, replace=replace)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
        temporary = Path(name)
        with open(handle, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            if flush:
                os.fsync(file.fileno())
        _name(temporary, path, replace)
        if flush:
            flush_folder(path.parent)
    except OSError as error:
        raise UserError(f"{path} could not be written: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def umasked(mode: int) -> int:
    """``mode`` without what the process's umask takes from new files."""
    mask = os.umask(0o077)  # the only way to read it; another thread's file of this moment is its owner's alone
    os.umask(mask)
    return mode & ~mask


def refuse_existing(path: Path, *, replace: bool) -> None:
    """Raises UserError where there is something that must not be replaced, or the folder is missing."""
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.parent}.")
    if path.is_dir() or (not replace and os.path.lexists(path)):
        raise UserError(f"{path} exists already: choose another name, or remove it first.")


def flush_folder(folder: Path) -> None:
    """Make the names in ``folder`` outlive a power cut, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _name(temporary: Path, path: Path, replace: bool) -> None:
    """A link never replaces what somebody else has put there meanwhile; file systems without links get a rename."""
    if not replace:
        try:
            os.link(temporary, path)
            return
        except FileExistsError as error:
            raise UserError(f"{path} exists already: choose another name, or remove it first.") from error
        except OSError:
            pass
    os.replace(temporary, path)
