"""Real images. Run with ``SECUREGAN_DATA=<the data folder> pytest tests/data/test_real.py``."""

from pathlib import Path

import pytest

from securegan.data.batch import SPLITS
from securegan.data.folder import Folder

pytestmark = pytest.mark.data


def test_cifar10_zip(data_folder: Path, tmp_path: Path) -> None:
    module = Folder(tmp_path, 0, path=str(data_folder / "cifar10.zip"), max_images=1000)
    spec = module.spec
    assert (spec.name, spec.channels, spec.size, spec.num_classes) == ("cifar10", 3, 32, 10)
    assert sum(module.split_size(split) for split in SPLITS) == 1000
    assert module.bad.counts == {"skipped": 0, "converted": 0}
    train = module.chunk("train", 0, 1000)
    counts = train.labels.bincount()
    assert counts.max() - counts.min() <= 1
    assert 0.4 < train.images.mean() < 0.55 and 0.2 < train.images.std() < 0.3  # published: 0.473 and 0.252
