"""What the data hand to every other part: a batch, and the description of a data set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from torch import Tensor

SPLITS = ("train", "calibrate", "validate", "test")


class Batch(NamedTuple):
    """Images with their labels and their place in the data set."""

    images: Tensor  # (N, C, H, W) float32 in [0, 1]
    labels: Tensor  # (N,) int64; -1 where unlabelled
    index: Tensor  # type: ignore[assignment]  # (N,) int64, place in the whole data set; hides tuple.index


@dataclass(frozen=True)
class DataSpec:
    """What a model, an attack or a report must know of a data set."""

    name: str
    channels: int
    size: int
    num_classes: int  # 0 = unlabelled
    class_names: tuple[str, ...]
    eps: float  # the usual pixel radius of this data set, in [0, 1] units
    digest: str  # hex content digest of the prepared data, labels and splits
    class_shares: tuple[float, ...] = ()  # of each class in the train split; equal ones where not known

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """From what ``dataclasses.asdict`` gave, as JSON has it; raises KeyError or TypeError for anything else."""
        names, shares = found["class_names"], found.get("class_shares", ())
        return cls(**{**found, "class_names": tuple(names), "class_shares": tuple(shares)})

    @property
    def balanced(self) -> bool:
        """Whether no class has more training images than another, as far as is known."""
        return len(set(self.class_shares)) < 2
