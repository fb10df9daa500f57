"""Files of a folder or a zip archive, by name and as bytes; nothing is ever unpacked.

The files come from anyone: names that leave the archive, links, encrypted entries and oversized files are refused one
by one and reported, and are never followed or opened. Hidden files and macOS' ``__MACOSX`` are passed over.
"""

import lzma
import os
import re
import stat
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple, Protocol

from securegan.data.bad_files import BadFile
from securegan.data.decode import SUFFIXES, BadImage
from securegan.errors import ConfigError, UserError, near_match

MAX_BYTES = 256 * 2**20  # more than the largest accepted image, uncompressed, takes
METADATA = "metadata.json"
SIDECAR = ".sg.json"  # after an image's whole name: what is signed of it
MAX_ENTRIES = 4_000_000  # of an archive
MAX_RATIO = 200  # of an entry's length to what it takes in the archive, from MAX_RATIO_FROM bytes on
MAX_RATIO_FROM = 4 * 2**20
# images by name; those without a decoder here are reported, not passed over
IMAGE_SUFFIXES = frozenset(SUFFIXES) | {".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2", ".ppm", ".pgm"}
_DRIVE = re.compile(r"[A-Za-z]:")


class Entry(NamedTuple):
    """A file within a source, and what tells one version of it from another."""

    name: str  # with '/' between folders
    stamp: str  # size, and time of change or checksum


class Files(Protocol):
    """Images and metadata files of a folder or an archive."""

    path: Path
    images: list[Entry]
    metadata: list[Entry]
    sidecars: list[Entry]
    refused: list[BadFile]

    def read(self, name: str) -> bytes:
        """The bytes of one listed file, from any thread; raises BadImage where it cannot be read."""
        ...


def open_files(path: str) -> Files:
    """The files under ``path``, a folder or a zip.

    Raises ConfigError where it does not exist or is neither, UserError where it cannot be read.
    """
    found = Path(path).expanduser()
    if not found.exists():
        siblings = [sibling.name for sibling in found.parent.iterdir()] if found.parent.is_dir() else []
        raise ConfigError(
            f"data.path={path!r} does not exist: expected a folder or a zip file of images."
            f"{near_match(found.name, siblings)}"
        )
    if found.is_dir():
        return FolderFiles(found)
    if found.is_file() and zipfile.is_zipfile(found):
        return ZipFiles(found)
    if found.is_file() and found.suffix.lower() == ".zip":
        raise ConfigError(f"data.path={path!r} is damaged or not a zip file, whatever its name says: fetch it again.")
    raise ConfigError(f"data.path={path!r} is neither a folder nor a zip file: expected one or the other, of images.")


class FolderFiles:
    """The regular files below a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images: list[Entry] = []
        self.metadata: list[Entry] = []
        self.sidecars: list[Entry] = []
        self.refused: list[BadFile] = []
        folders = [""]
        while folders:
            folders += self._list(folders.pop())

    def _list(self, folder: str) -> list[str]:
        """Take in the files of one folder (a name ending in '/', or empty); returns its sub-folders."""
        folders = []
        try:
            with os.scandir(self.path / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise UserError(f"data.path='{self.path}' cannot be read: {error.strerror}.") from error
            self.refused.append(BadFile(folder, f"cannot be listed: {error.strerror}"))
            return []
        for entry in entries:
            name = folder + entry.name
            if is_hidden(entry.name):
                continue
            if entry.is_symlink():
                if is_image(name) or entry.is_dir():
                    self.refused.append(BadFile(name, "a link, which is not followed"))
            elif entry.is_dir(follow_symlinks=False):
                folders.append(name + "/")
            elif entry.is_file(follow_symlinks=False) and is_wanted(name):
                self._take(name, entry)
        return folders

    def _take(self, name: str, found: "os.DirEntry[str]") -> None:
        try:
            status = found.stat(follow_symlinks=False)
        except OSError as error:
            self.refused.append(BadFile(name, f"cannot be read: {error.strerror}"))
            return
        if status.st_size > MAX_BYTES:
            self.refused.append(BadFile(name, _too_long()))
        else:
            list_of(self, name).append(Entry(name, f"{status.st_size} {status.st_mtime_ns}"))

    def read(self, name: str) -> bytes:
        try:
            with open(self.path / name, "rb") as file:
                return file.read(MAX_BYTES + 1)
        except OSError as error:
            raise BadImage(f"cannot be read: {error.strerror}") from error


class ZipFiles:
    """The entries of a zip archive, read straight from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images: list[Entry] = []
        self.metadata: list[Entry] = []
        self.sidecars: list[Entry] = []
        self.refused: list[BadFile] = []
        self._infos: dict[str, zipfile.ZipInfo] = {}
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise UserError(f"data.path='{path}' is a damaged zip file: {error}.") from error
        if len(self._archive.infolist()) > MAX_ENTRIES:
            raise UserError(f"data.path='{path}' has more than {MAX_ENTRIES:,} entries: unpack or divide it.")
        for info in self._archive.infolist():
            self._take(info)
        for name, info in self._infos.items():
            entry = Entry(name, f"{info.file_size} {info.CRC}")
            list_of(self, name).append(entry)

    def _take(self, info: zipfile.ZipInfo) -> None:
        """Keep one entry under its tidy name; of two with one name the later counts, as it would when unpacked."""
        raw = info.filename.replace("\\", "/")
        parts = [part for part in raw.split("/") if part not in ("", ".")]
        if raw.endswith("/") or any(part != ".." and is_hidden(part) for part in parts):
            return
        is_link = stat.S_ISLNK(info.external_attr >> 16)
        if not is_wanted(raw) and not is_link:
            return
        if raw.startswith("/") or ".." in parts or _DRIVE.match(raw):
            reason = "its name leads out of the archive"
        elif is_link:
            reason = "a link, which is not followed"
        elif info.flag_bits & 0x1:
            reason = "encrypted"
        elif info.file_size > MAX_BYTES:
            reason = _too_long()
        elif info.file_size > max(MAX_RATIO_FROM, MAX_RATIO * info.compress_size):
            reason = f"more than {MAX_RATIO} times as long as in the archive"
        else:
            self._infos["/".join(parts)] = info
            return
        self.refused.append(BadFile(raw, reason))

    def read(self, name: str) -> bytes:
        try:
            return self._archive.read(self._infos[name])
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError) as error:
            raise BadImage(f"cannot be read from the archive: {error}") from error


def is_image(name: str) -> bool:
    """Whether a file's name is an image's."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_wanted(name: str) -> bool:
    """Whether a file is an image or says something of images."""
    return is_image(name) or name.rpartition("/")[2] == METADATA or _is_sidecar(name)


def list_of(files: Files, name: str) -> list[Entry]:
    """The list that a wanted file belongs to."""
    return files.images if is_image(name) else files.sidecars if _is_sidecar(name) else files.metadata


def _is_sidecar(name: str) -> bool:
    return name.endswith(SIDECAR) and is_image(name.removesuffix(SIDECAR))


def is_hidden(part: str) -> bool:
    """Whether a folder or file of this name is the operating system's, not the user's."""
    return part.startswith(".") or part == "__MACOSX"


def _too_long() -> str:
    return f"longer than {MAX_BYTES // 2**20} MiB"
