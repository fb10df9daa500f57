"""Prepared images: fixed uint8 records on disk or in memory, and what is known of each."""

import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from securegan.data.bad_files import BadFiles
from securegan.errors import UserError


class Records(Protocol):
    """Random access to images."""

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels ``(N, C, H, W)`` of ``indices``, in that order."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A data set ready to be split: pixels, and three int64 arrays ``(n,)`` about them."""

    records: Records
    labels: NDArray[np.int64]  # -1 where unlabelled
    given: NDArray[np.int64]  # the source's own split as an index into SPLITS, -1 where it has none
    groups: NDArray[np.int64]  # images of one group stay in one split; -1 for an image on its own
    class_names: tuple[str, ...]
    channels: int
    digest: str  # hex, of pixels, labels, given splits and groups
    bad: BadFiles


class MemoryRecords:
    """Records of an array ``(n, C, H, W)``, for data sets of a few megabytes."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.pixels[np.asarray(indices, dtype=np.int64)]


class FileRecords:
    """Records of a file of ``n`` images of ``shape``, read with positioned reads.

    Nothing of the file is mapped or kept, so a process' memory does not grow with the data set, and the one descriptor
    has no position that forked loader workers could disturb. A pickled copy opens the file anew.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path, self.shape = path, shape
        self._bytes = int(np.prod(shape))
        self._open()

    def _open(self) -> None:
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self._descriptor)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "shape": self.shape, "_bytes": self._bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels ``(N, C, H, W)`` of ``indices``; raises UserError where the file was cut short meanwhile."""
        pixels = np.empty((len(indices), *self.shape), dtype=np.uint8)
        for record, index in zip(pixels, indices, strict=True):
            if os.preadv(self._descriptor, [record.data], int(index) * self._bytes) != self._bytes:
                raise UserError(f"The prepared data {self.path} were cut short while in use: start the run again.")
        return pixels
