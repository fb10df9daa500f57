"""HopSkipJump (Chen et al. 2020, arXiv 1904.02144, Algorithm 2), decision based, in L2 and L-inf.

From a point x_t at the border, found by bisection to within theta: the border's normal is estimated from the decisions
at B_t = B_0 sqrt(t) random points at delta_t around it, v = mean (phi - mean phi) u (eq. 16); then a step of
|x_t - x| / sqrt(t) along v (L2) or sign v (L-inf), halved until it ends on the wrong side, and bisection again.
"""

import math
from typing import Any

import torch
from torch import Tensor

from securegan.attacks.evasion.base import Task
from securegan.attacks.evasion.black_box import Streams, ask
from securegan.attacks.evasion.decisions import DecisionAttack, offer, queries_left, to_border, unbounded
from securegan.attacks.spaces import Ball, magnitude, per_example, steepest
from securegan.attacks.threat import Norm, Radii
from securegan.configuration.types import PositiveFloat, PositiveInt

FIRST_DELTA = 0.1  # around the first border point, whose distance says little
MOST_PROBES = 10_000  # of one estimate
MOST_HALVINGS = 20  # of a step
PROBED_AT_ONCE = 2**16  # values of an example's probes


class HopSkipJump(DecisionAttack):
    """Steps along the border's normal, as many as ``queries`` allow."""

    name = "hopskipjump"

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        norm: Norm = "l2",
        queries: PositiveInt = 10_000,
        starts: PositiveInt = 100,
        probes: PositiveInt = 100,
        gamma: PositiveFloat = 1.0,
        **of_every_attack: Any,
    ) -> None:
        """Args:
        queries: per example, in all.
        starts: random inputs, and clean images, tried for one that is wrong.
        probes: B_0, of the first estimate of the normal.
        gamma: theta is ``gamma / d^(3/2)`` distances in L2 and ``gamma / d^2`` in L-inf, of d-dimensional inputs.
        of_every_attack: as of :class:`EvasionAttack`.
        """
        super().__init__(radii, norm, queries=queries, starts=starts, **of_every_attack)
        self.probes, self.gamma = probes, float(gamma)

    def search(self, task: Task) -> None:
        free = unbounded(task, self.norm)
        where, x = self.first_wrong(task, free)
        dimensions = task.inputs[0].numel()
        theta = self.gamma / dimensions ** (1.5 if self.norm == "l2" else 2)
        bisections = max(1, math.ceil(-math.log2(theta)))
        near = queries_left(task, where, self.queries) >= bisections
        where, x = where[near], x[near]
        if len(where):
            x = to_border(task, free, where, x, self.norm, bisections)
            self._improve(task, free, where, x, bisections)

    def _improve(self, task: Task, free: Ball, where: Tensor, x: Tensor, bisections: int) -> None:
        streams, turn = Streams(task, where, self.name), 0
        while True:
            turn += 1
            probes = min(int(self.probes * turn**0.5), MOST_PROBES)
            kept = (queries_left(task, where, self.queries) > probes + bisections).nonzero().squeeze(1)
            if not len(kept):
                return
            where, x = where[kept], x[kept]
            streams.keep(kept)
            distance = magnitude(x - free.origin[where], self.norm)
            delta = self.gamma * distance / x[0].numel()
            if turn == 1:
                delta = torch.full_like(distance, FIRST_DELTA)
            direction = steepest(self._normal(task, free, where, x, delta, probes, streams), self.norm)
            stepped, moved = self._step(task, free, where, x, direction, distance / turn**0.5, bisections)
            if len(moved):
                x[moved] = to_border(task, free, where[moved], stepped[moved], self.norm, bisections)

    def _normal(
        self, task: Task, free: Ball, where: Tensor, x: Tensor, delta: Tensor, probes: int, streams: Streams
    ) -> Tensor:
        """The border's normal at ``x``, up to its length: from decisions on the sphere of radius ``delta`` around."""
        size, shape = x[0].numel(), x.shape[1:]
        weighted, plain, phi = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(delta)
        at_once, done = max(1, PROBED_AT_ONCE // size), 0
        while done < probes:
            n = min(at_once, probes - done)
            drawn = streams.normal(n, size) if self.norm == "l2" else 2 * streams.uniform(n, size) - 1
            drawn = drawn / drawn.norm(dim=2, keepdim=True).clamp_min(1e-12)
            around = x[:, None] + (delta[:, None, None] * drawn).view(len(x), n, *shape)
            rows = torch.arange(len(x), device=x.device).repeat_interleave(n)
            around = free[where[rows]].project(around.flatten(0, 1))
            _, wrong = ask(task.surface, around, task.reference[where[rows]])
            task.search.queries[where] += n
            signed = (2 * wrong.float() - 1).view(len(x), n)
            moved = around.view(len(x), n, *shape) - x[:, None]
            weighted += (signed.view(len(x), n, *[1] * len(shape)) * moved).sum(1)
            plain, phi, done = plain + moved.sum(1), phi + signed.sum(1), done + n
        mean = phi / probes
        alike = mean.abs() == 1  # nothing to compare: all of them speak for the same side
        return weighted - per_example(torch.where(alike, 0, mean), x) * plain

    def _step(
        self, task: Task, free: Ball, where: Tensor, x: Tensor, direction: Tensor, length: Tensor, reserve: int
    ) -> tuple[Tensor, Tensor]:
        """``(x moved, rows for which it is wrong)`` along ``direction``, by a length halved until it is.

        ``reserve`` queries of each example are left over.
        """
        stepped, moved = x.clone(), torch.zeros_like(where, dtype=torch.bool)
        pending = torch.arange(len(where), device=where.device)
        for _ in range(MOST_HALVINGS):
            pending = pending[queries_left(task, where[pending], self.queries) > reserve]
            if not len(pending):
                break
            rows = where[pending]
            tried = free[rows].project(x[pending] + per_example(length[pending], x) * direction[pending])
            wrong = offer(task, free, rows, tried, self.norm)
            hit = pending[wrong]
            stepped[hit], moved[hit] = tried[wrong], True
            pending, length = pending[~wrong], length / 2
        return stepped, moved.nonzero().squeeze(1)
