"""Boundary Attack (Brendel et al. 2018, arXiv 1712.04248, Algorithm 1 and section 2), decision based, in L2.

A walk along the border on the wrong side: from d = x_t - x a step orthogonal to d on the sphere of radius |d|, then one
towards x. Every tenth step the orthogonal one is judged alone; its length follows the rate at which it stays wrong
(about half of them do where the border looks flat), the length of the step towards x follows its own rate.
"""

from typing import Any

import torch
from torch import Tensor

from securegan.attacks.evasion.base import Task
from securegan.attacks.evasion.black_box import Streams, ask
from securegan.attacks.evasion.decisions import DecisionAttack, offer, queries_left, to_border, unbounded
from securegan.attacks.spaces import Ball, magnitude, per_example
from securegan.attacks.threat import Radii
from securegan.configuration.types import PositiveFloat, PositiveInt

BISECTIONS = 10  # of the start
CHECK_EVERY = 10  # steps; when the orthogonal step is judged alone
ORTHOGONAL_RATE, TOWARDS_RATE = 0.4, 0.2  # of successes, at which the step lengths stay as they are
CONVERGED = 1e-7  # length of the step towards the input, in its distance


class Boundary(DecisionAttack):
    """A walk of at most ``queries`` along the border."""

    name = "boundary"

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        queries: PositiveInt = 25_000,
        starts: PositiveInt = 100,
        orthogonal_step: PositiveFloat = 0.1,
        towards_step: PositiveFloat = 0.01,
        adaptation: PositiveFloat = 0.1,
        **of_every_attack: Any,
    ) -> None:
        """Args:
        queries: per example, in all.
        starts: random inputs, and clean images, tried for one that is wrong.
        orthogonal_step, towards_step: first lengths, in the present distance from the input.
        adaptation: how fast the logarithms of the lengths follow the rates.
        of_every_attack: as of :class:`EvasionAttack`.
        """
        super().__init__(radii, "l2", queries=queries, starts=starts, **of_every_attack)
        self.adaptation = float(adaptation)
        self.orthogonal_step, self.towards_step = float(orthogonal_step), float(towards_step)

    def search(self, task: Task) -> None:
        free = unbounded(task, "l2")
        where, x = self.first_wrong(task, free)
        rounds = BISECTIONS + 2  # and a checked step
        near = queries_left(task, where, self.queries) >= rounds
        where, x = where[near], x[near]
        if len(where):
            self._walk(task, free, where, to_border(task, free, where, x, "l2", BISECTIONS))

    def _walk(self, task: Task, free: Ball, where: Tensor, x: Tensor) -> None:
        streams = Streams(task, where, self.name)
        orthogonal = torch.full((len(where),), self.orthogonal_step, device=x.device)
        towards = torch.full_like(orthogonal, self.towards_step)
        step = 0
        while True:
            step += 1
            checked = step % CHECK_EVERY == 0
            live = (queries_left(task, where, self.queries) >= 1 + checked) & (towards >= CONVERGED)
            if not live.all():
                kept = live.nonzero().squeeze(1)
                if not len(kept):
                    return
                where, x, orthogonal, towards = where[kept], x[kept], orthogonal[kept], towards[kept]
                streams.keep(kept)
            ball = free[where]
            around = self._around(ball, x, orthogonal, streams)
            candidate = self._towards(ball, x, around, towards)
            wrong = offer(task, free, where, candidate, "l2")
            if checked:
                _, stays = ask(task.surface, around, task.reference[where])
                task.search.queries[where] += 1
                factor = (self.adaptation * CHECK_EVERY * (stays.float() - ORTHOGONAL_RATE) / 2).exp()
                orthogonal, towards = (orthogonal * factor).clamp_max(1), towards * factor
            nearer = wrong & (magnitude(candidate - ball.origin, "l2") < magnitude(x - ball.origin, "l2"))
            towards = (towards * (self.adaptation * (nearer.float() - TOWARDS_RATE)).exp()).clamp_max(0.5)
            x = torch.where(per_example(nearer, x), candidate, x)

    @staticmethod
    def _around(ball: Ball, x: Tensor, length: Tensor, streams: Streams) -> Tensor:
        """A step of ``length`` distances orthogonal to the perturbation, drawn back to its sphere."""
        delta = (x - ball.origin).flatten(1)
        distance = delta.norm(dim=1, keepdim=True).clamp_min(1e-12)
        drawn = streams.round(delta.shape[1], normal=True)
        drawn = drawn - delta * ((drawn * delta).sum(1, keepdim=True) / distance.square())
        drawn = drawn * (length[:, None] * distance / drawn.norm(dim=1, keepdim=True).clamp_min(1e-12))
        turned = (delta + drawn) / (1 + length[:, None].square()).sqrt()
        return ball.project(ball.origin + turned.view_as(x))

    @staticmethod
    def _towards(ball: Ball, x: Tensor, around: Tensor, length: Tensor) -> Tensor:
        """``around`` at ``1 - length`` of the distance of ``x``, or nearer where the bounds have cut it so."""
        delta = around - ball.origin
        wanted = magnitude(x - ball.origin, "l2") * (1 - length)
        shrunk = (wanted / magnitude(delta, "l2").clamp_min(1e-12)).clamp_max(1)
        return ball.project(ball.origin + delta * per_example(shrunk, x))
