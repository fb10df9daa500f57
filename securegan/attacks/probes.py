"""What the audit of :mod:`securegan.attacks.audit` looks at beside attacks: the victim's forwards and its gradients.

Every probe gives a value per example, so that figures of several processes can be put together.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from securegan.attacks.engine import Search, full_radius, start_noise
from securegan.attacks.evasion.base import Task
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.shield import shielded
from securegan.attacks.surfaces import Assessment, Objective, Surface, assess_classes
from securegan.attacks.threat import AttackResult, Norm

TOGETHER = 512  # random draws assessed at once
BLOCK = 250  # of them of one example
LATE = 10  # steps at the end in which a search should hardly gain any more


@dataclass(frozen=True)
class Part:
    """Some of a surface's inputs."""

    x: Tensor  # (n, ...)
    reference: Tensor  # (n,)
    keys: Tensor  # (n,) int64

    def __getitem__(self, index: Tensor) -> "Part":
        """The part of some of the examples."""
        return Part(self.x[index], self.reference[index], self.keys[index.to(self.keys.device)])


class RescaledSurface(Surface):
    """A decision among classes with its logits times ``factor`` plus ``shift``: the same decision everywhere."""

    def __init__(self, surface: Surface, factor: float = 1.0, shift: float = 0.0) -> None:
        super().__init__(surface.victims)
        self.inner, self.factor, self.shift = surface, factor, shift
        self.name, self.space, self.criterion, self.classes = (
            surface.name,
            surface.space,
            surface.criterion,
            surface.classes,
        )
        self.objectives: tuple[Objective, ...] = surface.objectives

    def logits(self, x: Tensor, reference: Tensor) -> Tensor:
        return self.inner.logits(x, reference) * self.factor + self.shift

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        return assess_classes(self.logits(x, reference), reference, objective)

    def words(self, x: Tensor, reference: Tensor) -> list[str]:
        return self.inner.words(x, reference)


def from_logits(surface: Surface) -> bool:
    """Whether the surface's objectives are those of a classifier's logits."""
    return surface.classes > 1 and "ce" in surface.objectives


def margins(surface: Surface, part: Part) -> Assessment:
    """The clean view of a part, without gradients."""
    with shielded(surface.victims), torch.no_grad():
        return surface.assess(part.x, part.reference, surface.objectives[0])


def unrepeatable(surface: Surface, part: Part, forwards: int) -> Tensor:
    """``(n,)`` whether further forwards of the same input give another margin."""
    first = margins(surface, part).margin
    differ = torch.zeros_like(first, dtype=torch.bool)
    for _ in range(forwards - 1):
        differ |= margins(surface, part).margin != first
    return differ


def swayed(surface: Surface, part: Part) -> Tensor:
    """``(n,)`` whether an input's margin depends on its neighbours in the batch.

    Each input stands once among copies of the part and once among inputs that are their mirror, at the same place of
    a batch of the same size, so that rounding is the same.
    """
    mirrored = 1 - part.x if surface.space.name == "pixels" else -part.x
    reference = torch.cat([part.reference, part.reference])
    views = [
        margins(surface, Part(torch.cat([part.x, beside]), reference, part.keys)).margin[: len(part.x)]
        for beside in (part.x, mirrored)
    ]
    return (views[0] - views[1]).abs() > 1e-4 * views[0].abs().amax().clamp_min(1e-12)


def like_probabilities(surface: Surface, part: Part) -> Tensor:
    """``(n,)`` whether what should be logits lies in ``[0, 1]`` and sums to one."""
    with shielded(surface.victims), torch.no_grad():
        logits = surface.logits(part.x, part.reference)
    return (logits >= 0).all(1) & (logits <= 1).all(1) & ((logits.sum(1) - 1).abs() < 1e-3)


def asks_for_gradients(surface: Surface, part: Part) -> Tensor:
    """``(n,)`` whether the victim's forward itself calls for gradients, as a defence that optimises its input does."""
    with shielded(surface.victims), torch.no_grad(), gradient_calls() as calls:
        surface.assess(part.x[:2], part.reference[:2], surface.objectives[0])
    return torch.full((len(part.x),), bool(calls), device=part.x.device)


@contextmanager
def gradient_calls() -> Iterator[list[str]]:
    """Notes the calls of autograd in this thread, however they were imported; the thread's profiler is put back."""
    watched = {function.__code__: function.__name__ for function in (torch.autograd.grad, torch.autograd.backward)}
    calls: list[str] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code in watched:
            calls.append(watched[frame.f_code])

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def broken_gradient(
    surface: Surface, part: Part, objective: Objective, eps: float, norm: Norm, purpose: Sequence[int | str]
) -> Tensor:
    """``(n,)`` whether the gradient of an objective is zero or not finite."""
    with shielded(surface.victims):
        x = part.x.detach().clone()
        if surface.flat_at_input:
            x = surface.space.ball(x, eps, norm).start(start_noise(x, norm, purpose, part.keys))
        x = x.requires_grad_(True)
        value = surface.assess(x, part.reference, objective).value.sum()
        gradient = torch.autograd.grad(value, x)[0] if value.requires_grad else torch.zeros_like(x)
    flat = gradient.flatten(1)
    return ~flat.isfinite().all(1) | (flat == 0).all(1)


def found_by_noise(
    surface: Surface, part: Part, eps: float, norm: Norm, draws: int, purpose: Sequence[int | str]
) -> Tensor:
    """``(n,)`` whether any of ``draws`` random perturbations of the full radius is judged wrong.

    Draws are made by key in blocks; an example that is lost is drawn no further.
    """
    with shielded(surface.victims), torch.no_grad():
        wrong = torch.zeros(len(part.x), dtype=torch.bool, device=part.x.device)
        for start in range(0, draws, BLOCK):
            many = min(BLOCK, draws - start)
            if wrong.all():
                break
            for where in (~wrong).nonzero().squeeze(1).split(max(1, TOGETHER // many)):
                some = part[where]
                like = some.x[:, None].expand(-1, many, *some.x.shape[1:])
                noise = start_noise(like, norm, (*purpose, start), some.keys).flatten(0, 1)
                repeated = some[torch.arange(len(where)).repeat_interleave(many).to(where.device)]
                moved = full_radius(repeated.x, surface.space.ball(repeated.x, eps, norm), noise)
                right = surface.assess(moved, repeated.reference, surface.objectives[0]).right
                wrong[where] = ~right.view(len(where), many).all(1)
    return wrong


class _Path(Search):
    """A search that remembers the margins of every step."""

    def __init__(self, begun: Search) -> None:
        super().__init__(**vars(begun))
        self.steps: list[Tensor] = []  # (N,) each, NaN for those searched no longer
        self.last_wrong = self.fooled.clone()

    def offer(self, where: Tensor, x: Tensor, margin: Tensor, wrong: Tensor) -> None:
        super().offer(where, x, margin, wrong)
        self.steps.append(torch.full_like(self.margin, torch.nan).index_copy(0, where, margin))
        self.last_wrong[where] = wrong


class PathPGD(PGD):
    """PGD of one start an objective that also tells how its search went; one call at a time."""

    path: _Path

    def __call__(self, surface: Surface, inputs: Tensor, reference: Tensor, **other: Any) -> AttackResult:
        begun = torch.zeros(len(inputs), device=inputs.device)
        self.path = _Path(Search(inputs, begun, begun.bool(), begun.long(), begun))  # where nothing is right
        return super().__call__(surface, inputs, reference, **other)

    def search(self, task: Task) -> None:
        task.search = self.path = _Path(task.search)
        super().search(task)

    def gains(self) -> tuple[Tensor, Tensor]:
        """``(N,)`` how far the best margin rose in the last ten steps, and in all, of those never fooled (else NaN).

        Summed over objectives.
        """
        late = torch.full_like(self.path.margin, torch.nan)
        total, survived = late.clone(), ~self.path.fooled
        if self.path.steps and survived.any() and self.steps > LATE:
            curves = torch.stack(self.path.steps)[:, survived].view(-1, self.steps + 1, int(survived.sum()))
            best = curves.cummax(1).values
            late[survived] = (best[:, -1] - best[:, -1 - LATE]).sum(0)
            total[survived] = (best[:, -1] - best[:, 0]).sum(0)
        return late, total
