"""Handwritten digits, 1,797 grey images of 8x8 pixels that come with scikit-learn: no file, no network.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998
(the test part).
"""

from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from securegan.data.bad_files import BadFiles
from securegan.data.module import ImageDataModule
from securegan.data.records import MemoryRecords, Prepared
from securegan.errors import ConfigError


class Digits(ImageDataModule):
    """Ten labelled classes, resized bilinearly and held in memory."""

    data_name = "digits"
    usual_eps = 32 / 255

    def load(self) -> Prepared:
        """The digits with no split given; raises ConfigError where a path is."""
        if self.path is not None:
            raise ConfigError(f"data.path={self.path!r} is not allowed with data=digits: expected none.")
        from sklearn.datasets import load_digits

        bunch = load_digits()
        channels = 3 if self.channels == 3 else 1
        pixels = resized(bunch.images, self.size).repeat(channels, axis=1)
        labels = bunch.target.astype(np.int64)
        digest = blake2b(pixels.tobytes() + labels.tobytes(), digest_size=16).hexdigest()
        none = np.full(len(labels), -1, dtype=np.int64)
        names = tuple(str(name) for name in bunch.target_names)
        return Prepared(MemoryRecords(pixels), labels, none, none, names, channels, digest, BadFiles())


def resized(values: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """Values ``(n, 8, 8)`` from 0 to 16 as pixels ``(n, 1, size, size)``, interpolated bilinearly."""
    images = torch.from_numpy(values).float()[:, None] * (255 / 16)
    pixels = np.empty((len(images), 1, size, size), dtype=np.uint8)
    for start in range(0, len(images), 256):  # in parts: as float32 the largest sizes would not fit into memory
        part = F.interpolate(images[start : start + 256], (size, size), mode="bilinear", align_corners=False)
        pixels[start : start + 256] = part.round().to(torch.uint8).numpy()
    return pixels
