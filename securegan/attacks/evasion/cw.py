"""The L2 attack of Carlini & Wagner (2017, arXiv 1608.04644, sections V-B and VI): the nearest confident success.

Adam descends ||x' - x||_2^2 + c max(kappa - margin(x'), 0), the margin being f_6, and the smallest c that still finds a
wrong decision is searched for by bisection. Everything is an example's own: c, Adam's moments, and when a descent that
makes no more progress ends.

In pixels x' = 1/2 + s/2 tanh(w), with s above 1 and w bounded to where x' lies in [0, 1]. The paper has s = 1, made a
little less so that w is finite; exactly black and white pixels then lie where tanh is flat, and hundreds of steps pass
before they move. Codes are moved themselves, and kept in the prior's shell.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from securegan.attacks.engine import round_size
from securegan.attacks.evasion.base import EvasionAttack, Task
from securegan.attacks.spaces import LatentSpace, per_example
from securegan.attacks.surfaces import Assessment
from securegan.attacks.threat import Radii
from securegan.configuration.types import NonNegativeFloat, PositiveFloat, PositiveInt

STRETCH = 1.1  # s
CHECKS = 10  # a descent's progress is looked at after each tenth of it, as by the authors
PROGRESS = 0.9999  # and it has ended where the loss is not below this share of what it was
GAIN = 1e-3  # a bisection has ended where two descents in a row bring the distance down by less than this share
MEAN, SQUARE = 0.9, 0.999  # decay of Adam's moments


@dataclass
class Descent:
    """The state of a descent, a row an example."""

    where: Tensor  # (B,) index into the search's N
    live: Tensor  # (B,) bool; the others only fill the batch up
    origin: Tensor
    reference: Tensor
    c: Tensor  # (B,)
    w: Tensor
    mean: Tensor  # Adam's first moment
    square: Tensor  # and its second
    best: Tensor
    nearest: Tensor  # (B,) distance of ``best``; inf before any success
    loss: Tensor  # (B,) when progress was last looked at

    @classmethod
    def begin(cls, task: Task, where: Tensor, w: Tensor, c: Tensor) -> Self:
        """At ``w`` of the examples ``where``, filled up with copies to a round size."""
        filled = torch.arange(round_size(len(where)), device=where.device)
        of = filled % len(where)
        origin, w, never = task.inputs[where[of]], w[of], torch.full_like(c[of], torch.inf)
        mean, square = torch.zeros_like(w), torch.zeros_like(w)
        reference = task.reference[where[of]]
        return cls(
            where[of], filled < len(where), origin, reference, c[of], w, mean, square, origin, never, never.clone()
        )

    def __getitem__(self, kept: Tensor) -> Self:
        return type(self)(*(getattr(self, field.name)[kept] for field in fields(self)))


class CarliniWagner(EvasionAttack):
    """C&W in L2; the radius only says which of the successes count."""

    name = "cw"
    minimal = True

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        steps: PositiveInt = 200,
        searches: PositiveInt = 5,
        lr: PositiveFloat = 0.01,
        confidence: NonNegativeFloat = 0.0,
        first_c: PositiveFloat | None = None,
        abort_early: bool = True,
        **of_every_attack: Any,
    ) -> None:
        """Args:
        steps: of each descent.
        searches: descents of each example, one for each c.
        lr: Adam's.
        confidence: kappa, the margin from which a wrong decision counts.
        first_c: the c that is tried first; where it is not given, twice the one at which the linearised problem's
            solution is wrong, so that it follows the scale of the logits.
        abort_early: end what makes no more progress: a descent, and an example's bisection.
        of_every_attack: as of :class:`EvasionAttack`.
        """
        super().__init__(radii, "l2", **of_every_attack)
        self.steps, self.searches, self.lr, self.confidence = steps, searches, lr, confidence
        self.first_c, self.abort_early = first_c, abort_early

    def search(self, task: Task) -> None:
        where = task.open()
        start = task.beginning(where, "l2")
        c = self._first(task, where, start)
        low, high, idle = torch.zeros_like(c), torch.full_like(c, torch.inf), torch.zeros_like(where)
        for _ in range(self.searches):
            before = task.search.nearest[where]
            found = self._descend(task, where, start, c)
            low, high = torch.where(found, low, c), torch.where(found, c, high)
            c = torch.where(high.isinf(), 10 * c, (low + high) / 2)
            if self.abort_early:
                gained = before.isinf() | (task.search.nearest[where] < (1 - GAIN) * before)
                idle = torch.where(gained, 0, idle + 1)
                going = idle < 2
                where, start, c, low, high, idle = (t[going] for t in (where, start, c, low, high, idle))
                if not len(where):
                    return

    def _first(self, task: Task, where: Tensor, start: Tensor) -> Tensor:
        """``(n,)`` the c that are tried first."""
        if self.first_c is not None:
            return torch.full((len(where),), self.first_c, device=where.device)
        x = start.clone().requires_grad_(True)
        view = task.surface.assess(x, task.reference[where], "margin")
        (gradient,) = torch.autograd.grad(view.value.sum(), x)
        task.search.queries[where] += 1
        missing = (self.confidence - view.margin).clamp_min(1e-6)
        return 4 * missing / gradient.flatten(1).square().sum(1).clamp_min(1e-12)

    def _descend(self, task: Task, where: Tensor, start: Tensor, c: Tensor) -> Tensor:
        """One descent of the examples ``where``, offered to the search; ``(n,)`` whether it found a wrong decision."""
        variable = Codes(task.surface.space) if isinstance(task.surface.space, LatentSpace) else Stretched()
        state = Descent.begin(task, where, variable.start(start), c)
        found = torch.zeros_like(task.clean_right)
        for step in range(1, self.steps + 1):
            view, change = self._step(task, variable, state, step)
            last = step == self.steps
            if not (last or (self.abort_early and step % math.ceil(self.steps / CHECKS) == 1)):
                continue
            loss = change + state.c * (self.confidence - view.margin).clamp_min(0)
            ended = state.live & ((loss > PROGRESS * state.loss) | last)
            state.loss = loss
            if ended.any():
                done = state[ended]
                found[done.where] = done.nearest.isfinite()
                task.search.offer_near(done.where, done.best, done.nearest, found[done.where])
                task.search.queries[done.where] += step - 1  # beside the one that the offer counts
                state.live = state.live & ~ended
                if not state.live.any():
                    break
                size = round_size(int(state.live.sum()))
                state = state[state.live.int().argsort(descending=True, stable=True)[:size]]
        return found[where]

    def _step(self, task: Task, variable: "Stretched | Codes", state: Descent, step: int) -> tuple[Assessment, Tensor]:
        """Keeps the current iterates that are the nearest successes, and takes Adam's step from all.

        Returns: how the iterates were judged, and ``(B,)`` their squared distances.
        """
        x = variable.inputs(state.w).requires_grad_(True)
        view = task.surface.assess(x, state.reference, "margin")
        (gradient,) = torch.autograd.grad(view.value.sum(), x)
        x = x.detach()
        delta = x - state.origin
        change = delta.flatten(1).square().sum(1)
        distance = change.sqrt()
        better = ~view.right & (view.margin >= self.confidence) & (distance < state.nearest)
        state.best = torch.where(per_example(better, x), x, state.best)
        state.nearest = torch.where(better, distance, state.nearest)
        push = state.c * (view.margin < self.confidence)
        downhill = variable.chain(delta.mul_(2).sub_(per_example(push, x) * gradient), x)
        state.mean.lerp_(downhill, 1 - MEAN)
        state.square.mul_(SQUARE).addcmul_(downhill, downhill, value=1 - SQUARE)
        spread = state.square.sqrt().div_(math.sqrt(1 - SQUARE**step)).add_(1e-8)
        state.w = variable.bounded(state.w.addcdiv_(state.mean, spread, value=-self.lr / (1 - MEAN**step)))
        return view, change


class Stretched:
    """Images as ``1/2 + s/2 tanh(w)``."""

    def start(self, x: Tensor) -> Tensor:
        return ((2 * x - 1) / STRETCH).atanh()

    def inputs(self, w: Tensor) -> Tensor:
        return w.tanh().mul_(STRETCH / 2).add_(0.5).clamp_(0, 1)

    def chain(self, gradient: Tensor, x: Tensor) -> Tensor:
        """The gradient in w from the one in ``x``, in place."""
        slope = ((2 * x - 1) / STRETCH).square_().neg_().add_(1)
        return gradient.mul_(slope).mul_(STRETCH / 2)

    def bounded(self, w: Tensor) -> Tensor:
        bound = math.atanh(1 / STRETCH)
        return w.clamp_(-bound, bound)


class Codes:
    """Codes as they are, in the prior's shell."""

    def __init__(self, space: LatentSpace) -> None:
        self.space = space

    def start(self, x: Tensor) -> Tensor:
        return x

    def inputs(self, w: Tensor) -> Tensor:
        return w.clone()

    def chain(self, gradient: Tensor, x: Tensor) -> Tensor:
        return gradient

    def bounded(self, w: Tensor) -> Tensor:
        return self.space.project(w)
