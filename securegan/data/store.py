"""The prepared store: every image of a source decoded once into a file of fixed uint8 records.

A store is a folder ``<cache>/data/<key>`` with ``records.bin`` (the pixels, nothing else), ``about.npy`` (labels, given
splits, groups), ``bad_files.json`` and ``header.json``, which carries the lengths and digests of the others and its
own. It is built beside its place under a file lock and moved there whole, so a store either is complete or is not
there; a damaged one is noticed when it is opened and built again.
"""

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from securegan.data.bad_files import BadFile, BadFiles, name_few
from securegan.data.decode import DECODE_VERSION, BadImage, Decoded
from securegan.data.records import FileRecords, Prepared
from securegan.errors import UserError

STORE_VERSION = 1
SHOW_PROGRESS_FROM = 2000  # images
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_COPY_BYTES = 8 * 2**20
_log = logging.getLogger(__name__)

Channels = Literal["auto", 1, 3]


class Source(Protocol):
    """What a store is made from; images are loaded by position, from several threads."""

    names: list[str]
    labels: NDArray[np.int64]
    given: NDArray[np.int64]
    groups: NDArray[np.int64]
    class_names: tuple[str, ...]
    refused: list[BadFile]

    def load(self, position: int) -> Decoded:
        """One image, or BadImage."""
        ...


def prepare(
    cache_dir: Path,
    source_key: str,
    make_source: Callable[[int], Source],
    *,
    size: int,
    channels: Channels,
    on_bad: Literal["skip", "refuse"],
) -> Prepared:
    """Open the store of a source, building it first where there is none or a damaged one.

    Safe in several processes at once: one builds, the others wait for it.

    Args:
        cache_dir: under which ``data/<key>`` lies.
        source_key: changes whenever the source's content does.
        make_source: the source for a number of channels; called only where the store must be built.
        size: of the images, in pixels.
        channels: of the images; ``auto`` is 1 where every image is grey.
        on_bad: ``refuse`` raises where a file cannot be used, ``skip`` leaves it out and reports it.

    Raises:
        UserError: no image can be used, some cannot and on_bad says so, or the store cannot be written.
    """
    recipe = json.dumps([STORE_VERSION, DECODE_VERSION, source_key, size, channels])
    place = cache_dir / "data" / blake2b(recipe.encode(), digest_size=16).hexdigest()
    prepared = open_store(place)
    if prepared is None:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{place}.lock"):
                prepared = open_store(place)  # another process may have built it meanwhile
                if prepared is None:
                    prepared = _build(place, make_source(1 if channels == 1 else 3), size, channels)
        except OSError as error:
            raise UserError(_write_failure(place, error)) from error
    skipped = prepared.bad.skipped
    if skipped and on_bad == "refuse":
        raise UserError(
            f"{len(skipped)} files cannot be used: {name_few(skipped)}; mend or remove them, or set data.on_bad=skip."
        )
    if skipped or prepared.bad.converted:
        _log.warning("%s; all are named in %s", prepared.bad.summary(), place / "bad_files.json")
    return prepared


def open_store(place: Path) -> Prepared | None:
    """The store at ``place``, or None where there is none or its parts do not fit together."""
    try:
        sealed = json.loads((place / "header.json").read_text(encoding="utf-8"))
        header = sealed["header"]
        about_bytes = (place / "about.npy").read_bytes()
        shape = (header["channels"], header["size"], header["size"])
        sound = (
            sealed["seal"] == _seal(header)
            and header["about"] == _digest(about_bytes)
            and (place / "records.bin").stat().st_size == header["count"] * int(np.prod(shape))
        )
        if not sound:
            raise ValueError("lengths or digests differ from the header's")
        about = np.load(place / "about.npy", allow_pickle=False)
        bad = BadFiles.load(place / "bad_files.json")
        records = FileRecords(place / "records.bin", shape)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("the prepared data %s are damaged and are prepared anew: %s", place, error)
        return None
    labels, given, groups = (np.ascontiguousarray(column) for column in about.T)
    names = tuple(header["class_names"])
    return Prepared(records, labels, given, groups, names, shape[0], header["content"], bad)


def _build(place: Path, source: Source, size: int, channels: Channels) -> Prepared:
    """Build the store beside ``place`` and move it there; only called under the lock. OSError where writing fails."""
    partial = place.with_name(place.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir()
    try:
        wide = 1 if channels == 1 else 3
        kept, bad, grey = _write_records(partial / "records.bin", source)
        if not kept:
            raise UserError(f"None of {len(source.names)} images can be used: {name_few(bad.skipped)}.")
        if channels == "auto" and grey:
            _narrow(partial / "records.bin", (wide, size, size))
            wide = 1
        about = np.stack([source.labels[kept], source.given[kept], source.groups[kept]], axis=1)
        np.save(partial / "about.npy", about, allow_pickle=False)
        bad.save(partial / "bad_files.json")
        header = {
            "count": len(kept),
            "channels": wide,
            "size": size,
            "class_names": list(source.class_names),
            "about": _digest((partial / "about.npy").read_bytes()),
            "content": _content_digest(partial / "records.bin", about),
        }
        (partial / "header.json").write_text(json.dumps({"header": header, "seal": _seal(header)}), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    prepared = open_store(place)
    if prepared is None:
        raise OSError(errno.EIO, "what was written cannot be read back")
    return prepared


def _write_records(path: Path, source: Source) -> tuple[list[int], BadFiles, bool]:
    """Decode and write every usable image; returns their positions, the report, and whether all are grey."""
    kept: list[int] = []
    skipped, converted, grey = list(source.refused), [], True
    with open(path, "wb") as file:
        for position, decoded in enumerate(_with_progress(_decoded(source), len(source.names))):
            name = source.names[position]
            if isinstance(decoded, BadImage):
                skipped.append(BadFile(name, str(decoded)))
                continue
            if decoded.converted:
                converted.append(BadFile(name, decoded.converted))
            grey = grey and _is_grey(decoded.pixels)
            file.write(decoded.pixels.data)
            kept.append(position)
        file.flush()
        os.fsync(file.fileno())
    return kept, BadFiles(tuple(skipped), tuple(converted)), grey


def _decoded(source: Source) -> Iterator[Decoded | BadImage]:
    """Every image in order; Pillow decodes outside the interpreter lock, so threads share the work."""

    def attempt(position: int) -> Decoded | BadImage:
        try:
            return source.load(position)
        except BadImage as bad:
            return bad

    threads = min(8, len(os.sched_getaffinity(0)))
    window = 32 * threads  # images waiting to be written are bounded
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(source.names), window):
            yield from pool.map(attempt, range(start, min(start + window, len(source.names))))


def _with_progress(images: Iterator[Any], total: int) -> Iterator[Any]:
    with Progress(console=Console(stderr=True), transient=True, disable=total < SHOW_PROGRESS_FROM) as progress:
        yield from progress.track(images, total=total, description="Preparing images")


def _is_grey(pixels: NDArray[np.uint8]) -> bool:
    return all(np.array_equal(pixels[0], other) for other in pixels[1:])


def _narrow(path: Path, shape: tuple[int, int, int]) -> None:
    """Keep only the first channel of every record."""
    narrow, plane = path.with_suffix(".narrow"), shape[1] * shape[2]
    step = max(1, _COPY_BYTES // (shape[0] * plane)) * shape[0] * plane
    with open(path, "rb") as source, open(narrow, "wb") as target:
        while block := source.read(step):
            records = np.frombuffer(block, dtype=np.uint8).reshape(-1, shape[0], plane)
            target.write(np.ascontiguousarray(records[:, 0]).data)
        target.flush()
        os.fsync(target.fileno())
    narrow.replace(path)


def _content_digest(path: Path, about: NDArray[np.int64]) -> str:
    hasher = blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(_COPY_BYTES):
            hasher.update(block)
    hasher.update(about.astype("<i8").tobytes())
    return hasher.hexdigest()


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def _seal(header: dict[str, Any]) -> str:
    return _digest(json.dumps(header, sort_keys=True).encode())


def _write_failure(place: Path, error: OSError) -> str:
    if error.errno in FULL_DISK:
        return (
            f"The disk of {place.parent} is full, and the prepared data do not fit: free some space, or set cache_dir "
            f"to a larger disk."
        )
    return f"The prepared data cannot be written to {place.parent}: {error.strerror or error}."
