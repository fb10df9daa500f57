"""A data set small enough to train a judge on within a test: scikit-learn's digits, scaled to 32 pixels."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from securegan.data.batch import Batch, DataSpec
from securegan.judges.cache import load_or_train_judge
from securegan.judges.judge import Judge
from securegan.randomness import permutation

SIZES = {"train": 1077, "calibrate": 180, "validate": 180, "test": 360}


class DigitsData:
    """The part of a data module a judge reads."""

    def __init__(self, labelled: bool = True, train: int = SIZES["train"]) -> None:
        pixels, labels = load_digits(return_X_y=True)
        images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
        order = permutation(len(images), "digits")
        self.images = torch.nn.functional.interpolate(images, size=32, mode="bilinear")[order].clamp(0, 1)
        self.labels = torch.tensor(labels)[order] if labelled else torch.full((len(images),), -1)
        self.sizes = {**SIZES, "train": train}
        classes = 10 if labelled else 0
        names = tuple(map(str, range(classes)))
        self.spec = DataSpec("digits", 1, 32, classes, names, 0.1, f"{labelled}{train}")

    def split_size(self, split: str) -> int:
        return self.sizes[split]

    def chunk(self, split: str, start: int, stop: int) -> Batch:
        first = sum(size for name, size in SIZES.items() if list(SIZES).index(name) < list(SIZES).index(split))
        rows = torch.arange(first + start, first + stop)
        return Batch(self.images[rows], self.labels[rows], rows)

    def split(self, split: str) -> tuple[Tensor, Tensor]:
        batch = self.chunk(split, 0, self.split_size(split))
        return batch.images, batch.labels


@pytest.fixture
def digits() -> Callable[..., DigitsData]:
    return DigitsData


@pytest.fixture(scope="session")
def whole_digits() -> DigitsData:
    return DigitsData()


@pytest.fixture(scope="session")
def judge(whole_digits: DigitsData, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    cache: Path = tmp_path_factory.mktemp("cache")
    return load_or_train_judge(whole_digits, cache)
