"""What the attacks share: their interface, the search for the best of each example, and gradient ascent.

Weights are frozen and only the input's gradient is asked for; examples that are fooled are searched no longer
(``early_drop``), which is sound because success is judged per example and the fooled input itself is kept.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from securegan.attacks.shield import shielded
from securegan.attacks.spaces import Ball, per_example, steepest
from securegan.attacks.surfaces import Assessment, Objective, Surface
from securegan.attacks.threat import AnyNorm, AttackResult, Norm, ThreatModel
from securegan.randomness import generator

PART = 64 * 3 * 32 * 32  # values of a batch that a CPU is given at once


class Attack(ABC):
    """``attack(surface, inputs, reference) -> AttackResult``; never sees a model."""

    name: str

    @abstractmethod
    def threat(self, surface: Surface) -> ThreatModel:
        """The threat model under which the attack works on ``surface``."""

    @abstractmethod
    def __call__(
        self,
        surface: Surface,
        inputs: Tensor,
        reference: Tensor,
        *,
        purpose: Sequence[int | str] = ("attack",),
        keys: Tensor | None = None,
        start: Tensor | None = None,
    ) -> AttackResult:
        """Attack every input whose clean decision is right.

        Args:
            surface: the decision to push on.
            inputs: ``(N, ...)`` in the surface's space.
            reference: ``(N,)`` what the right decision is, as the surface defines it.
            purpose: what the random starts are drawn for; the same purpose gives the same starts.
            keys: ``(N,)`` int64 identities of the inputs; with them an example's start depends on its key alone, not on
                its neighbours or the batch size.
            start: ``(N, ...)`` where the search may start, such as the end of one within a smaller radius.
        """


class Memory:
    """Runs every attack; those that remember give back what an attack gave when it was last run on the same."""

    def run(
        self,
        attack: Attack,
        surface: Surface,
        inputs: Tensor,
        reference: Tensor,
        *,
        purpose: Sequence[int | str],
        keys: Tensor | None,
        start: Tensor | None = None,
    ) -> AttackResult:
        """As :meth:`Attack.__call__`."""
        return attack(surface, inputs, reference, purpose=purpose, keys=keys, start=start)


@dataclass
class Search:
    """The state of an attack on N inputs: the best found so far of each, and what it cost."""

    best: Tensor  # the adversarial inputs
    margin: Tensor  # (N,) of the best
    fooled: Tensor  # (N,) bool
    queries: Tensor  # (N,) int64
    nearest: Tensor  # (N,) distance of the nearest success, of attacks that look for it; inf before

    @classmethod
    def begin(cls, inputs: Tensor, clean: Assessment) -> Self:
        """Nothing found but the inputs themselves, which were looked at once."""
        queries = torch.ones(len(inputs), dtype=torch.int64, device=inputs.device)
        nearest = torch.full((len(inputs),), torch.inf, device=inputs.device)
        return cls(inputs.clone(), clean.margin.clone(), ~clean.right, queries, nearest)

    def offer(self, where: Tensor, x: Tensor, margin: Tensor, wrong: Tensor) -> None:
        """Keep ``x`` for the examples ``where`` if it fools for the first time, or has a higher margin at no loss."""
        finite = x.sum(tuple(range(1, x.ndim))).isfinite()  # in one pass, whatever the memory format
        wrong = wrong & ~margin.isnan() & finite  # else it is no decision, or no input
        better = (wrong & ~self.fooled[where]) | ((margin > self.margin[where]) & (wrong | ~self.fooled[where]))
        chosen = where[better]
        self.best[chosen], self.margin[chosen] = x[better], margin[better]
        self.fooled[where] |= wrong
        self.queries[where] += 1

    def offer_near(self, where: Tensor, x: Tensor, distance: Tensor, wrong: Tensor) -> None:
        """Keep ``x`` for the examples ``where`` that it fools from nearer than any before."""
        better = wrong & (distance < self.nearest[where])
        chosen = where[better]
        self.best[chosen], self.nearest[chosen] = x[better], distance[better]
        self.fooled[chosen] = True
        self.queries[where] += 1


def step_size(eps: float, steps: int, alpha: float | None = None) -> float:
    """``alpha``; where it is not given, a size of which ``steps`` go 2.5 radii (Madry et al. 2018, section 5).

    That reaches the ball's border from any start, and leaves steps to move along it.
    """
    return 2.5 * eps / steps if alpha is None else float(alpha)


class Step(ABC):
    """How an ascent moves on from a point whose objective and gradient are known; may remember the points before."""

    @abstractmethod
    def keep(self, index: Tensor) -> None:
        """Go on with some of the examples, or with copies of them."""

    @abstractmethod
    def move(self, x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        """The next points, after ``x (N, ...)`` with objectives ``value (N,)``; called once a step, in order."""


class FixedStep(Step):
    """Projected steps of size ``alpha``.

    With ``momentum`` the direction is a decaying sum of gradients, each divided by its mean absolute value (Dong et al.
    2018, arXiv 1710.06081, eq. 6, up to a constant).
    """

    def __init__(self, ball: Ball, norm: Norm, alpha: float, momentum: float = 0.0) -> None:
        self.ball, self.norm, self.alpha, self.momentum = ball, norm, alpha, momentum
        self.gathered = torch.zeros_like(ball.origin) if momentum else None

    def keep(self, index: Tensor) -> None:
        self.ball = self.ball[index]
        self.gathered = None if self.gathered is None else self.gathered[index]

    def move(self, x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        if self.gathered is not None:
            size = gradient.abs().flatten(1).mean(1).clamp_min(1e-30)
            gradient = self.gathered = self.momentum * self.gathered + gradient / per_example(size, gradient)
        return self.ball.project(x + self.alpha * steepest(gradient, self.norm))


def ascend(
    surface: Surface,
    step: Step,
    x: Tensor,
    reference: Tensor,
    search: Search,
    where: Tensor,
    *,
    objective: Objective,
    steps: int,
    early_drop: bool,
    halved: bool = False,
) -> None:
    """``steps`` times ``step`` up ``objective``; every point on the way is offered to ``search``.

    The batch is filled up to a round size with copies and with examples that are searched no longer, whose results are
    not looked at: convolution libraries compile and keep code for every size they meet.

    Where it is ``halved``, gradients come from a bfloat16 pass, and offered are only points judged in float32 again:
    those that it holds wrong, of examples not yet fooled, and the last.

    Args: x, reference, step: of the examples ``where``, indices into the search's N.
    """
    filled = torch.arange(round_size(len(where)), device=where.device)
    live, kept = filled < len(where), filled % len(where)
    x, reference, where = x[kept], reference[kept], where[kept]
    step.keep(kept)
    for count in range(steps + 1):
        last = count == steps
        view, gradient = look(surface, x, reference, objective, gradient=not last, halved=halved and not last)
        wrong, value = ~view.right, view.value
        if halved and not last:
            search.queries[where[live]] += 1
            wrong = _confirmed(surface, x, reference, search, where, wrong & live & ~search.fooled[where], objective)
        else:
            offered = (where, x, view.margin, wrong)
            search.offer(*(offered if live.all() else (part[live] for part in offered)))
        if last:
            return
        if early_drop and (wrong & live).any():
            live &= ~wrong
            if not live.any():
                return
            kept = _first(live)
            if len(kept) < len(live):
                x, value, gradient, reference = x[kept], value[kept], gradient[kept], reference[kept]
                live, where = live[kept], where[kept]
                step.keep(kept)
        x = step.move(x, value, gradient)


def _first(live: Tensor) -> Tensor:
    """Indices of the rows that are ``live``, and of as many others as make their number round."""
    return live.int().argsort(descending=True, stable=True)[: round_size(int(live.sum()))]


def _confirmed(
    surface: Surface, x: Tensor, reference: Tensor, search: Search, where: Tensor, held: Tensor, objective: Objective
) -> Tensor:
    """``(N,)`` which of the rows ``held`` to be wrong are so in float32; these rows are offered to ``search``."""
    wrong = torch.zeros_like(held)
    if held.any():
        rows = _first(held)
        view, _ = look(surface, x[rows], reference[rows], objective, gradient=False)
        chosen = held[rows]
        search.offer(where[rows][chosen], x[rows][chosen], view.margin[chosen], ~view.right[chosen])
        wrong[rows] = ~view.right & chosen
    return wrong


def look(
    surface: Surface,
    x: Tensor,
    reference: Tensor,
    objective: Objective,
    *,
    gradient: bool,
    halved: bool = False,
) -> tuple[Assessment, Tensor]:
    """The surface's assessment of ``x``, and its objective's gradient (empty where it is not asked for), detached.

    With ``halved`` both come from a pass in bfloat16, where autocast knows it: near enough to step along, no judgement.

    On a CPU the batch is seen in parts whose activations fit its caches: 64 images of 3x32x32 at a time took 0.64 of
    the time of 128 on a net of 64 and 128 channels, and 1.0 of it on one of 16 and 32 (32 at a time 0.67 and 1.05).
    """
    size = max(4, PART // max(x.shape[1:].numel(), 1)) if x.device.type == "cpu" else len(x)
    views, gradients = [], []
    for part, of_part in zip(x.detach().split(size), reference.split(size), strict=True):
        part.requires_grad_(gradient)
        half = torch.autocast(x.device.type, torch.bfloat16, enabled=halved)
        with torch.set_grad_enabled(gradient), half:
            view = surface.assess(part, of_part, objective)
        if gradient:
            gradients += torch.autograd.grad(view.value.float().sum(), part)
        found = Assessment(view.value.detach(), view.margin.detach(), view.right)
        views.append(Assessment(found.value.float(), found.margin.float(), found.right) if halved else found)
    gradients = [part.nan_to_num(0, 0, 0) for part in gradients]  # a step along nothing rather than out of the ball
    if len(views) == 1:
        return views[0], gradients[0] if gradient else x.new_empty(0)
    return Assessment(*map(torch.cat, zip(*views, strict=True))), torch.cat(gradients) if gradient else x.new_empty(0)


def round_size(n: int) -> int:
    """The next multiple of 4 up to 8, of 8 up to 64, of 16 from there."""
    step = 4 if n <= 8 else 8 if n <= 64 else 16
    return -(-n // step) * step


def start_noise(like: Tensor, norm: AnyNorm, purpose: Sequence[int | str], keys: Tensor | None) -> Tensor:
    """Noise of ``like``'s shape for a random start: uniform in ``[-1, 1]`` for L-inf, standard normal otherwise."""

    def draw(shape: Sequence[int], *parts: int | str) -> Tensor:
        source = generator(*parts)
        if norm == "linf":
            return torch.rand(*shape, generator=source).mul_(2).sub_(1)
        return torch.randn(*shape, generator=source)

    if keys is None:
        return draw(like.shape, *purpose).to(like.device)
    drawn = [draw(like.shape[1:], *purpose, key) for key in keys.tolist()]
    return torch.stack(drawn).to(like.device) if drawn else torch.empty_like(like)


def random_perturbation(
    surface: Surface, inputs: Tensor, reference: Tensor, ball: Ball, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """The baseline of every attack: a random perturbation of the full radius; ``(perturbed, wrong (N,))``."""
    perturbed = full_radius(inputs, ball, noise)
    with shielded(surface.victims), torch.no_grad():
        return perturbed, ~surface.assess(perturbed, reference, surface.objectives[0]).right


def full_radius(inputs: Tensor, ball: Ball, noise: Tensor) -> Tensor:
    """``inputs`` moved along ``noise`` to the border of the ball, as far as the space's bounds allow."""
    if ball.norm == "l0":
        return ball.start(noise)
    return ball.project(inputs + ball.eps * (noise.sign() if ball.norm == "linf" else steepest(noise, "l2")))


def finish(search: Search, ball: Ball, clean_right: Tensor, *, minimal: bool = False) -> AttackResult:
    """The result of a search, with distances and validity judged in float64.

    A ``minimal`` search had no radius, and what it found beyond the ball's is no success, but no violation either.
    """
    kept = clean_right
    if minimal:
        found, near = ball.distance(search.best), ball.valid(search.best)
        kept = clean_right & search.fooled & near
    adversarial = torch.where(per_example(kept, search.best), search.best, ball.origin)
    valid, distance = ball.valid(adversarial), ball.distance(adversarial)
    success = kept & search.fooled & valid
    met = clean_right & search.fooled
    return AttackResult(
        adversarial=adversarial,
        success=success,
        clean_right=clean_right,
        valid=valid,
        distance=distance,
        queries=search.queries,
        nearest=torch.where(met if minimal else success, found if minimal else distance, torch.inf),
    )
