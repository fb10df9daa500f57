"""What whoever runs an attack has at hand for it, beside the surface and the inputs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from securegan.attacks.engine import Memory
from securegan.attacks.surfaces import Surface

Images = Callable[[Literal["train", "calibrate"], int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Supplies:
    """Of one surface; without arguments nothing is at hand."""

    memory: Memory = field(default_factory=Memory)  # for attacks that run others
    surrogate: Surface | None = None  # an independent network's decision among the classes of the data
    images: Images | None = None  # at most so many images of a split that is not attacked, with their references
    seed: int = 0  # of everything random in preparing
