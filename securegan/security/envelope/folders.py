"""A folder as one stream of bytes, and back, with nothing in the stream that could reach outside of the new folder.

A stream is entries in order of their paths, ``type(1) size(2) path`` and for files ``size(8) content``; the last entry
is ``0 count(8)``. Folders are listed where they are empty. There are files and folders only: no links, owners, modes or
times, and nothing compressed, so that a stream is as large as what it holds.
"""

import os
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from shutil import rmtree
from typing import BinaryIO

from securegan.errors import UserError
from securegan.security.durable import refuse_existing
from securegan.security.envelope.backends import Forged
from securegan.security.errors import PolicyError

END, FILE, FOLDER = 0, 1, 2
BLOCK = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What an opened folder may hold at most: files and folders, bytes of files, folders within folders, of a path."""

    entries: int = 10_000_000
    size: int = 1 << 44
    depth: int = 64
    path: int = 4096


def pack(folder: Path, write: Callable[[bytes | memoryview], object], *, skip_links: bool = False) -> int:
    """Give the stream of ``folder`` to ``write``; how many entries it has.

    Raises UserError where something can be neither read nor sealed: links (unless they are to be skipped), sockets,
    names that are not UTF-8, files that change meanwhile; PolicyError for folders too deep to be opened again.
    """
    count = 0
    block = memoryview(bytearray(BLOCK))
    for path, name, is_file in _walk(folder, "", skip_links):
        encoded = _encoded(path, name)
        write(struct.pack(">BH", FILE if is_file else FOLDER, len(encoded)) + encoded)
        if is_file:
            _pack_file(path, write, block)
        count += 1
    write(struct.pack(">BQ", END, count))
    return count


def unpack(blocks: Iterator[memoryview], destination: Path, limits: Limits = Limits()) -> int:
    """Write the stream's files into the new folder ``destination``, which appears whole or not; how many entries.

    Raises UserError where it exists, PolicyError for a stream that holds what no folder here has, Forged for one that
    is not complete.
    """
    refuse_existing(destination, replace=False)
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{destination.name[:64]}.", dir=destination.parent))
        count = _unpack_into(temporary, _Stream(blocks), limits)
        os.rename(temporary, destination)
        temporary = None
    except OSError as error:
        raise UserError(f"{destination} could not be written: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            rmtree(temporary, ignore_errors=True)
    return count


class _Stream:
    """Bytes of blocks, in pieces."""

    def __init__(self, blocks: Iterator[memoryview]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def take(self, size: int) -> bytes:
        """Exactly so many bytes, few."""
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """``size`` bytes in pieces. Raises Forged where the stream ends before."""
        while size:
            if not self._rest:
                block = next(self._blocks, None)
                if block is None:
                    raise Forged
                self._rest = block
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            yield piece

    def end(self) -> None:
        """Check what is left, the payload's last tag. Raises Forged where there is more."""
        if self._rest or next(self._blocks, None) is not None:
            raise Forged


def _unpack_into(folder: Path, stream: _Stream, limits: Limits) -> int:
    count = made = total = 0
    before = ""
    while True:
        kind = stream.take(1)[0]
        if kind == END:
            if struct.unpack(">Q", stream.take(8))[0] != count:
                raise PolicyError("the folder in it does not have as many entries as it says.")
            stream.end()
            return count
        (size,) = struct.unpack(">H", stream.take(2))
        name = _checked(stream.take(size), before, limits)
        made += name.count("/") + 1 - _levels_shared(before, name)
        before, count = name, count + 1
        if kind not in (FILE, FOLDER) or made > limits.entries:
            raise PolicyError(f"the folder in it has an entry of type {kind}, or more than {limits.entries} entries.")
        path = folder / name
        if kind == FOLDER:
            path.mkdir(parents=True, exist_ok=True)
            continue
        (length,) = struct.unpack(">Q", stream.take(8))
        total += length
        if total > limits.size:
            raise PolicyError(f"the folder in it has more than {limits.size} bytes.")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            for piece in stream.pieces(length):
                file.write(piece)


def _checked(encoded: bytes, before: str, limits: Limits) -> str:
    """A path that stays inside, in its one spelling and in order, so that none stands twice."""
    try:
        name = encoded.decode()
    except UnicodeDecodeError:
        raise PolicyError("the folder in it has a path that is not UTF-8.") from None
    parts = name.split("/")
    if (
        not 0 < len(encoded) <= limits.path
        or len(parts) > limits.depth
        or any(part in ("", ".", "..") or "\0" in part or len(part.encode()) > 255 for part in parts)
    ):
        raise PolicyError(f"the folder in it has a path that no folder here may have: {name[:80]!r}.")
    if parts <= before.split("/") and before:
        raise PolicyError(f"the folder in it has a path twice or out of order: {name[:80]!r}.")
    if before and parts[: before.count("/") + 1] == before.split("/"):
        raise PolicyError(f"the folder in it has a path below another entry: {name[:80]!r}.")
    return name


def _levels_shared(one: str, other: str) -> int:
    """Folders that two paths have in common from the top."""
    pairs = zip(one.split("/")[:-1], other.split("/")[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _walk(folder: Path, prefix: str, skip_links: bool) -> Iterator[tuple[Path, str, bool]]:
    """Files and empty folders in order of their paths' parts, with their paths below the top."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}.") from error
    for entry in entries:
        path, name = Path(entry.path), f"{prefix}{entry.name}"
        if name.count("/") >= Limits().depth:
            raise PolicyError(f"{folder} lies too deep and cannot be sealed: expected {Limits().depth} levels at most.")
        if entry.is_symlink():
            if not skip_links:
                raise UserError(f"{path} is a link, and links are not sealed: remove it, or give --skip-links.")
        elif entry.is_dir(follow_symlinks=False):
            empty = True
            for inner in _walk(path, f"{name}/", skip_links):
                empty = False
                yield inner
            if empty:
                yield path, name, False
        elif entry.is_file(follow_symlinks=False):
            yield path, name, True
        else:
            raise UserError(f"{path} is neither a file nor a folder and cannot be sealed.")


def _encoded(path: Path, name: str) -> bytes:
    """Raises UserError where :func:`unpack` would refuse the name."""
    try:
        encoded = name.encode()
        _checked(encoded, "", Limits())
    except (UnicodeEncodeError, PolicyError):
        raise UserError(f"{path!r} has a name that cannot be sealed: expected UTF-8 within 4096 bytes.") from None
    return encoded


def _pack_file(path: Path, write: Callable[[bytes | memoryview], object], block: memoryview) -> None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    with open(handle, "rb", buffering=0) as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} is not a file any more.")
        write(struct.pack(">Q", found.st_size))
        _copy(file, found.st_size, write, block, path)


def _copy(
    file: BinaryIO, size: int, write: Callable[[bytes | memoryview], object], block: memoryview, path: Path
) -> None:
    left = size
    while True:
        try:
            read = file.readinto(block)  # type: ignore[attr-defined]
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        if read > left or (not read and left):
            raise UserError(f"{path} changed while it was sealed: seal the folder again.")
        if not read:
            return
        write(block[:read])
        left -= read
