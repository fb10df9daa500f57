"""The four places where a defence attaches to a model, one set per player.

A defence is a callback that appends to these lists in ``setup``, before DDP wraps the module. Nothing edits a training
step to add a defence, and several compose in the order in which they were attached.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from securegan.models.base import GenerativeModule
    from securegan.models.networks.discriminator import DiscriminatorOutput


@dataclass
class Inputs:
    """Images of one origin in a player's update, with their targets and weights in the loss."""

    images: Tensor  # (N, C, H, W) in [0, 1]
    labels: Tensor | None  # (N,) int64, None for unlabelled data
    real: bool  # the authenticity target
    authenticity_weight: float = 1.0
    class_weight: float = 1.0
    target: Tensor | None = None  # what an autoencoder must give back; the images where None
    weight: float = 1.0  # in an autoencoder's loss


@dataclass
class StepContext:
    """What a hook sees of one update of one player; ``batch`` hooks may change ``inputs``."""

    module: "GenerativeModule"
    player: str
    images_seen: int
    rank: int
    inputs: list[Inputs]
    output: "DiscriminatorOutput | None" = None  # of all inputs, concatenated in order
    logged: dict[str, Tensor] = field(default_factory=dict)  # extra figures of this step, by name

    @property
    def images(self) -> Tensor:
        """All inputs of the update, concatenated; those of one origin as they are."""
        return _joined([part.images for part in self.inputs])

    @property
    def targets(self) -> Tensor:
        """What an autoencoder must give back for :attr:`images`."""
        return _joined([part.images if part.target is None else part.target for part in self.inputs])

    def shares(self) -> Tensor:
        """``(N,)`` weights of the images in an autoencoder's loss: those of their origins, 1 in all."""
        weights = [torch.full((len(part.images),), part.weight / len(part.images)) for part in self.inputs]
        whole = torch.cat(weights)
        return (whole / whole.sum()).to(self.inputs[0].images.device)


def _joined(parts: list[Tensor]) -> Tensor:
    """One after the other, without a copy where there is but one."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]


BatchHook = Callable[[StepContext], None]
LossHook = Callable[[StepContext], Tensor | None]
AroundHook = Callable[[StepContext], AbstractContextManager[None]]
GateHook = Callable[[Tensor, Tensor | None], Tensor]  # images, labels -> keep mask (N,)


@dataclass
class Ports:
    """The attachment points of one player."""

    batch: list[BatchHook] = field(default_factory=list)
    loss: list[LossHook] = field(default_factory=list)
    around: list[AroundHook] = field(default_factory=list)
    gate: list[GateHook] = field(default_factory=list)
