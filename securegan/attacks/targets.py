"""The same decision pushed to one class: targeted attacks, and untargeted ones that try the classes one by one.

The target of an example travels in its reference, ``reference * classes + target``, so that a surface cut to some of
the examples keeps theirs.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from securegan.attacks.surfaces import Assessment, Objective, Surface, label_margin
from securegan.randomness import generator

TargetChoice = Literal["random", "next", "least_likely"]


class TowardsClass(Surface):
    """``surface`` with objectives that ascend as its decision nears a target class."""

    def __init__(self, surface: Surface, *, only: bool = True) -> None:
        """Args:
        surface: one whose decision is among classes.
        only: the decision is lost where it becomes the target; otherwise where it is wrong at all, and the target is
            but the direction of the search (the targeted attacks of AutoAttack).
        """
        super().__init__(surface.victims)
        if not surface.classes:
            raise ValueError(f"the surface {surface.name} has no classes to aim at")
        self.inner, self.only = surface, only
        self.name, self.space, self.criterion, self.classes = (
            surface.name,
            surface.space,
            surface.criterion,
            surface.classes,
        )
        self.objectives: tuple[Objective, ...] = ("ce", "margin", "dlr") if surface.classes > 2 else ("ce", "margin")
        self.start_share, self.flat_at_input = surface.start_share, surface.flat_at_input

    def encode(self, reference: Tensor, target: Tensor) -> Tensor:
        """``(N,)`` references of this surface from the inner one's and the target classes."""
        return reference * self.classes + target

    def decode(self, reference: Tensor) -> tuple[Tensor, Tensor]:
        """The inner references and the target classes, ``(N,)`` each."""
        return reference.div(self.classes, rounding_mode="floor"), reference % self.classes

    def logits(self, x: Tensor, reference: Tensor) -> Tensor:
        return self.inner.logits(x, self.decode(reference)[0])

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        true, target = self.decode(reference)
        logits = self.inner.logits(x, true)
        towards = -label_margin(logits, target)
        if objective == "ce":
            value = torch.log_softmax(logits, 1).gather(1, target[:, None]).squeeze(1)
        elif objective == "dlr":
            value = targeted_dlr(logits, true, target)
        elif self.only:
            value = towards
        else:  # the target's logit over the right class's alone
            value = (logits.gather(1, target[:, None]) - logits.gather(1, true[:, None])).squeeze(1)
        decided = logits.argmax(1)
        if self.only:
            return Assessment(value, towards.detach(), decided != target)
        return Assessment(value, label_margin(logits, true).detach(), decided == true)

    def words(self, x: Tensor, reference: Tensor) -> list[str]:
        return self.inner.words(x, self.decode(reference)[0])

    def images(self, x: Tensor, reference: Tensor) -> Tensor:
        return self.inner.images(x, self.decode(reference)[0])


def targeted_dlr(logits: Tensor, true: Tensor, target: Tensor) -> Tensor:
    """Targeted difference of logits ratio (Croce & Hein 2020, eq. 7); of three classes the third logit serves twice."""
    ordered = logits.topk(min(4, logits.shape[1]), dim=1).values
    scale = ordered[:, 0] - (ordered[:, 2] + ordered[:, -1]) / 2
    gap = (logits.gather(1, target[:, None]) - logits.gather(1, true[:, None])).squeeze(1)
    return gap / scale.clamp_min(1e-12)


def choose_targets(
    choice: TargetChoice | int, logits: Tensor, true: Tensor, purpose: Sequence[int | str], keys: Tensor | None
) -> Tensor:
    """``(N,)`` target classes other than the right ones; a class given by number may be the right one of some.

    Args:
        choice: ``random`` among the others (by key), the ``next`` class, the ``least_likely`` one, or a class.
        logits: ``(N, K)`` of the clean inputs.
        true: ``(N,)`` the right classes.
        purpose: what the random ones are drawn for.
        keys: ``(N,)`` identities that they are drawn by.
    """
    classes = logits.shape[1]
    if isinstance(choice, int):
        return torch.full_like(true, choice)
    if choice == "next":
        return (true + 1) % classes
    if choice == "least_likely":
        return logits.scatter(1, true[:, None], torch.inf).argmin(1)
    if keys is None:
        offsets = torch.randint(1, classes, true.shape, generator=generator(*purpose, "target"))
    else:
        draws = [torch.randint(1, classes, (), generator=generator(*purpose, "target", key)) for key in keys.tolist()]
        offsets = torch.stack(draws) if draws else torch.zeros(0, dtype=torch.int64)
    return (true + offsets.to(true.device)) % classes
