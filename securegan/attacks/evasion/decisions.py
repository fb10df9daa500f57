"""What decision attacks share: a first wrong input, and the search for the border between it and the clean one."""

import math
from typing import Any

import torch
from torch import Tensor

from securegan.attacks.evasion.base import EvasionAttack, Task
from securegan.attacks.evasion.black_box import Streams, ask
from securegan.attacks.guarded import Guarded
from securegan.attacks.spaces import Ball, LatentSpace, magnitude, per_example
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import Surface, SurfaceName
from securegan.attacks.targets import TowardsClass
from securegan.attacks.threat import Norm, Radii

POOL = 1000  # clean images that may be starts
NOISE, GIVEN, NONE_LEFT = -1, -2, -3  # in place of a clean image's number


def unbounded(task: Task, norm: Norm) -> Ball:
    """The whole space around the task's inputs: all that bounds a search for the nearest success."""
    return task.surface.space.ball(task.inputs, math.inf, norm)


class DecisionAttack(EvasionAttack):
    """From a wrong input back to near the clean one: :meth:`first_wrong` is where the searches begin.

    The radius says which successes count; an example for which no start is wrong is not lost.
    """

    knowledge = "decision"
    minimal = True
    norm: Norm

    def __init__(self, radii: Radii | None, norm: Norm, *, queries: int, starts: int, **of_every_attack: Any) -> None:
        """Args:
        queries: per example, in all.
        starts: at most so many random inputs, and as many clean images, are tried for one that is wrong.
        """
        super().__init__(radii, norm, **of_every_attack)
        self.queries, self.starts = queries, starts
        self._pools: dict[SurfaceName, tuple[Tensor, Tensor]] = {}

    def prepare(self, surface: Surface, supplies: Supplies) -> None:
        """Images of the calibration split may be starts where the decision is among classes."""
        decision = surface.inner if isinstance(surface, Guarded) else surface
        if supplies.images is not None and decision.classes:
            self._pools[surface.name] = supplies.images("calibrate", POOL)

    def first_wrong(self, task: Task, free: Ball) -> tuple[Tensor, Tensor]:
        """``(where, x)`` of the examples for which a start is wrong, and the first such start of each.

        Clean images of the target's class, the nearest first, then noise; without a target noise first, then clean
        images of other classes (Brendel et al. 2018, section 2.2; Chen et al. 2020, section 4). Noise is uniform in
        pixels and a draw from the prior in latents. A start that the task gives is tried before all.
        """
        where = task.open(early_drop=False)
        x, pending = task.inputs[where].clone(), torch.arange(len(where), device=where.device)
        pool, order = self._pool(task, where)
        streams = Streams(task, where, "wrong start")
        noise, clean = [NOISE] * self.starts, list(range(order.shape[1]))
        plan = [*clean, *noise] if isinstance(task.surface, TowardsClass) else [*noise, *clean]
        for number in plan if task.start is None else [GIVEN, *plan]:
            able = queries_left(task, where[pending], self.queries) > 0
            if number == NOISE:
                drawn = _draw(task, streams)[able]
            elif number == GIVEN and task.start is not None:
                drawn = free[where[pending[able]]].project(task.start[where[pending[able]]])
            else:
                able &= order[pending, number] != NONE_LEFT
                drawn = pool[order[pending[able], number]]
            tried = pending[able]
            wrong = offer(task, free, where[tried], drawn, self.norm) if len(tried) else able[:0]
            x[tried[wrong]] = drawn[wrong]
            left = (~torch.isin(pending, tried[wrong])).nonzero().squeeze(1)
            if not len(left):
                return where, x
            if len(left) < len(pending):
                pending = pending[left]
                streams.keep(left)
        found = torch.ones_like(where, dtype=torch.bool).index_fill(0, pending, False)
        return where[found], x[found]

    def _pool(self, task: Task, where: Tensor) -> tuple[Tensor, Tensor]:
        """Clean images, and ``(n, k)`` which of them each example tries in turn."""
        if task.surface.name not in self._pools:
            return task.inputs[:0], where.new_zeros(len(where), 0)
        images, labels = (tensor.to(task.inputs.device) for tensor in self._pools[task.surface.name])
        if isinstance(task.surface, TowardsClass):
            wanted = labels == task.surface.decode(task.reference[where])[1][:, None]
        else:
            wanted = labels != task.reference[where][:, None]
        apart = torch.cdist(task.inputs[where].flatten(1).double(), images.flatten(1).double())
        nearest, order = apart.masked_fill(~wanted, torch.inf).sort(1)
        return images, order.masked_fill(nearest.isinf(), NONE_LEFT)[:, : self.starts]


def _draw(task: Task, streams: Streams) -> Tensor:
    shape, space = task.inputs.shape[1:], task.surface.space
    return space.into_shell(streams.normal(*shape)) if isinstance(space, LatentSpace) else streams.uniform(*shape)


def offer(task: Task, free: Ball, where: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """Ask for the decisions on ``x`` of the examples ``where`` and offer them as near successes: ``(N,)`` wrong."""
    _, wrong = ask(task.surface, x, task.reference[where])
    task.search.offer_near(where, x, magnitude(x - free.origin[where], norm), wrong)
    return wrong


def to_border(task: Task, free: Ball, where: Tensor, x: Tensor, norm: Norm, rounds: int) -> Tensor:
    """Wrong inputs moved towards the clean ones, wrong still, by ``rounds`` bisections of a query each.

    Along the straight line in L2; by cutting the perturbation to a smaller radius in L-inf.
    """
    ball, nearest = free[where], x
    radius = magnitude(x - ball.origin, norm)
    low, high = torch.zeros_like(radius), torch.ones_like(radius)
    for _ in range(rounds):
        middle = (low + high) / 2
        if norm == "l2":
            between = ball.origin.lerp(x, per_example(middle, x))
        else:
            reach = per_example(middle * radius, x)
            between = torch.minimum(torch.maximum(x, ball.origin - reach), ball.origin + reach)
        between = ball.project(between)
        wrong = offer(task, free, where, between, norm)
        nearest = torch.where(per_example(wrong, x), between, nearest)
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    return nearest


def queries_left(task: Task, where: Tensor, budget: int) -> Tensor:
    """``(N,)`` of the budget of each example, which the look at the clean input is no part of."""
    return budget + 1 - task.search.queries[where]
