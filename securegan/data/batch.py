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
        """From what ``dataclasses.asdict`` gave, as JSON has it.

        Raises KeyError, TypeError or ValueError for anything else: it may be a stranger's.
        """
        names, shares = tuple(found["class_names"]), tuple(found.get("class_shares", ()))
        spec = cls(**{**found, "class_names": names, "class_shares": shares})
        for text in (spec.name, spec.digest, *names):
            if not isinstance(text, str):
                raise TypeError(f"{text!r:.40} is no text")
            text.encode()  # half of a surrogate pair can be neither printed nor hashed
        for number in (spec.channels, spec.size, spec.num_classes):
            if type(number) is not int or not 0 <= number < 2**31:
                raise TypeError(f"{number!r:.40} is no number of channels, pixels or classes")
        if len(names) != spec.num_classes or len(shares) not in (0, len(names)):
            raise ValueError(f"{len(names)} names and {len(shares)} shares are not those of {spec.num_classes} classes")
        if not all(isinstance(part, int | float) and 0 <= part <= 1 for part in (spec.eps, *shares)):
            raise ValueError("a radius or a class's share is not in [0, 1]")
        return spec

    @property
    def balanced(self) -> bool:
        """Whether no class has more training images than another, as far as is known."""
        return len(set(self.class_shares)) < 2
