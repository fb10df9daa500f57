"""MNIST, Fashion-MNIST and CIFAR-10: torchvision's download, or the same images from a folder or zip of one's own.

torchvision's test set is the test split; the other splits are carved out of its training set. It is downloaded once,
under the cache, and prepared as every other source is; after that neither the network nor torchvision is needed.

Sources: Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998; H. Xiao et al.,
"Fashion-MNIST", 2017; A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from securegan.data.bad_files import BadFile
from securegan.data.batch import SPLITS
from securegan.data.decode import Decoded, to_pixels
from securegan.data.folder import prepare_path
from securegan.data.module import ImageDataModule
from securegan.data.records import Prepared
from securegan.data.store import FULL_DISK, prepare
from securegan.errors import UserError

PATIENCE = 30.0  # seconds without an answer before a download is given up


class TorchvisionSet(ImageDataModule):
    """A data set of ``torchvision.datasets``, by its class name there."""

    torchvision_name: ClassVar[str]

    def load(self) -> Prepared:
        """Raises UserError where the data are neither at ``path`` nor prepared before nor to be downloaded."""
        if self.path is not None:
            return prepare_path(self, self.path)
        return prepare(
            self.cache_dir,
            f"torchvision {self.torchvision_name}",
            lambda channels: TorchvisionImages(
                self.torchvision_name, self.cache_dir / "downloads", self.size, channels
            ),
            size=self.size,
            channels=self.channels,
            on_bad=self.on_bad,
        )


class MNIST(TorchvisionSet):
    """Handwritten digits, 70,000 grey images of 28x28 pixels."""

    data_name, torchvision_name, usual_eps = "mnist", "MNIST", 0.3


class FashionMNIST(TorchvisionSet):
    """Articles of clothing, 70,000 grey images of 28x28 pixels."""

    data_name, torchvision_name, usual_eps = "fashion_mnist", "FashionMNIST", 0.1


class CIFAR10(TorchvisionSet):
    """Objects and animals, 60,000 colour images of 32x32 pixels."""

    data_name, torchvision_name, usual_eps = "cifar10", "CIFAR10", 8 / 255


class TorchvisionImages:
    """A torchvision data set as a source of a store: the training set, then the test set."""

    def __init__(self, name: str, downloads: Path, size: int, channels: int) -> None:
        """Download the set where it is not there yet; raises UserError where that fails."""
        train, test = _fetched(name, downloads)
        self.size, self.channels = size, channels
        self._pixels = [np.asarray(part.data) for part in (train, test)]
        self._train_size = len(self._pixels[0])
        self.labels: NDArray[np.int64] = np.concatenate([np.asarray(part.targets, np.int64) for part in (train, test)])
        self.given = np.full(len(self.labels), SPLITS.index("test"), dtype=np.int64)
        self.given[: self._train_size] = SPLITS.index("train")
        self.groups = np.full(len(self.labels), -1, dtype=np.int64)
        self.class_names = tuple(str(title) for title in train.classes)
        self.names = [f"{name} {position}" for position in range(len(self.labels))]
        self.refused: list[BadFile] = []

    def load(self, position: int) -> Decoded:
        in_test = position >= self._train_size
        pixels = self._pixels[in_test][position - in_test * self._train_size]
        return Decoded(to_pixels(Image.fromarray(pixels), self.size, self.channels))


def _fetched(name: str, downloads: Path) -> tuple[Any, Any]:
    """Torchvision's training and test sets."""
    import torchvision.datasets

    made = getattr(torchvision.datasets, name)
    try:
        with _impatient():
            return made(downloads, train=True, download=True), made(downloads, train=False, download=True)
    except (OSError, RuntimeError, EOFError, AssertionError, ValueError) as error:  # no network, or a broken file
        if getattr(error, "errno", None) in FULL_DISK:
            raise  # told as every full disk is
        why = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{name} could not be downloaded to {downloads}, or is damaged there ({why}): connect to the network (and "
            f"remove a damaged copy), or set data.path to a folder or zip file of its images in class folders, best "
            f"within train/ and test/."
        ) from error


@contextmanager
def _impatient() -> Iterator[None]:
    """Give up on a silent server, which torchvision would wait for without end."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
