"""The attack interface and the gradient-ascent engine that pixels and latents share.

Weights are frozen and only the input's gradient is asked for; examples that are fooled are searched no longer
(``early_drop``), which is sound because success is judged per example and the fooled input itself is kept.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from securegan.attacks.shield import shielded
from securegan.attacks.spaces import Ball, per_example, steepest
from securegan.attacks.surfaces import Objective, Surface
from securegan.attacks.threat import AttackResult, Norm, ThreatModel
from securegan.randomness import generator


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
    ) -> AttackResult:
        """Attack every input whose clean decision is right.

        Args:
            surface: the decision to push on.
            inputs: ``(N, ...)`` in the surface's space.
            reference: ``(N,)`` what the right decision is, as the surface defines it.
            purpose: what the random starts are drawn for; the same purpose gives the same starts.
            keys: ``(N,)`` int64 identities of the inputs; with them an example's start depends on its key alone, not on
                its neighbours or the batch size.
        """


@dataclass
class Search:
    """The state of an attack on N inputs: the best found so far of each, and what it cost."""

    best: Tensor  # the adversarial inputs
    margin: Tensor  # (N,) of the best
    fooled: Tensor  # (N,) bool
    queries: Tensor  # (N,) int64

    def offer(self, where: Tensor, x: Tensor, margin: Tensor, wrong: Tensor) -> None:
        """Keep ``x`` for the examples ``where`` if it fools for the first time, or has a higher margin at no loss."""
        better = (wrong & ~self.fooled[where]) | ((margin > self.margin[where]) & (wrong | ~self.fooled[where]))
        chosen = where[better]
        self.best[chosen], self.margin[chosen] = x[better], margin[better]
        self.fooled[where] |= wrong
        self.queries[where] += 1


def ascend(
    surface: Surface,
    ball: Ball,
    x: Tensor,
    reference: Tensor,
    search: Search,
    where: Tensor,
    *,
    objective: Objective,
    norm: Norm,
    alpha: float,
    steps: int,
    early_drop: bool,
) -> None:
    """``steps`` projected steps of size ``alpha`` up ``objective``; every iterate is offered to ``search``.

    The batch is filled up to a round size with copies and with examples that are searched no longer, whose results are
    not looked at: convolution libraries compile and keep code for every size they meet.

    Args: x, reference, ball: of the examples ``where``, indices into the search's N.
    """
    filled = torch.arange(_round_size(len(where)), device=where.device)
    live, kept = filled < len(where), filled % len(where)
    x, reference, where, ball = x[kept], reference[kept], where[kept], ball[kept]
    for step in range(steps + 1):
        x = x.detach()
        if step < steps:
            x.requires_grad_(True)
        with torch.set_grad_enabled(step < steps):
            view = surface.assess(x, reference, objective)
        wrong = ~view.right
        search.offer(where[live], x.detach()[live], view.margin.detach()[live], wrong[live])
        if step == steps:
            return
        (gradient,) = torch.autograd.grad(view.value.sum(), x)
        x = x.detach()
        if early_drop and (wrong & live).any():
            live &= ~wrong
            if not live.any():
                return
            kept = live.int().argsort(descending=True, stable=True)[: _round_size(int(live.sum()))]
            if len(kept) < len(live):
                x, gradient, reference, where = x[kept], gradient[kept], reference[kept], where[kept]
                live, ball = live[kept], ball[kept]
        x = ball.project(x + alpha * steepest(gradient, norm))


def _round_size(n: int) -> int:
    """The next multiple of 4 up to 8, of 8 up to 64, of 16 from there."""
    step = 4 if n <= 8 else 8 if n <= 64 else 16
    return -(-n // step) * step


def start_noise(like: Tensor, norm: Norm, purpose: Sequence[int | str], keys: Tensor | None) -> Tensor:
    """Noise of ``like``'s shape for a random start: uniform in ``[-1, 1]`` for L-inf, standard normal for L2."""

    def draw(shape: Sequence[int], *parts: int | str) -> Tensor:
        source = generator(*parts)
        if norm == "linf":
            return torch.rand(*shape, generator=source).mul_(2).sub_(1)
        return torch.randn(*shape, generator=source)

    if keys is None:
        return draw(like.shape, *purpose).to(like.device)
    return torch.stack([draw(like.shape[1:], *purpose, key) for key in keys.tolist()]).to(like.device)


def random_perturbation(
    surface: Surface, inputs: Tensor, reference: Tensor, ball: Ball, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """The baseline of every attack: a random perturbation of the full radius; ``(perturbed, wrong (N,))``."""
    perturbed = full_radius(inputs, ball, noise)
    with shielded(surface.victims), torch.no_grad():
        return perturbed, ~surface.assess(perturbed, reference, surface.objectives[0]).right


def full_radius(inputs: Tensor, ball: Ball, noise: Tensor) -> Tensor:
    """``inputs`` moved along ``noise`` to the border of the ball, as far as the space's bounds allow."""
    return ball.project(inputs + ball.eps * (noise.sign() if ball.norm == "linf" else steepest(noise, "l2")))


def finish(search: Search, ball: Ball, clean_right: Tensor) -> AttackResult:
    """The result of a search, with distances and validity judged in float64."""
    adversarial = torch.where(per_example(clean_right, search.best), search.best, ball.origin)
    valid = ball.valid(adversarial)
    return AttackResult(
        adversarial=adversarial,
        success=clean_right & search.fooled & valid,
        clean_right=clean_right,
        valid=valid,
        distance=ball.distance(adversarial),
        queries=search.queries,
    )
