"""What decision attacks share: a first wrong input, and the search for the border between it and the clean one."""

import math

import torch
from torch import Tensor

from securegan.attacks.evasion.base import Task
from securegan.attacks.evasion.black_box import Streams, ask
from securegan.attacks.spaces import Ball, LatentSpace, magnitude, per_example
from securegan.attacks.threat import Norm


def unbounded(task: Task, norm: Norm) -> Ball:
    """The whole space around the task's inputs: all that bounds a search for the nearest success."""
    return task.surface.space.ball(task.inputs, math.inf, norm)


def wrong_start(task: Task, where: Tensor, free: Ball, norm: Norm, tries: int) -> tuple[Tensor, Tensor]:
    """``(where, x)`` of the examples for which one of ``tries`` random inputs is wrong, and the first such input.

    Uniform noise in pixels, a draw from the prior in latents. A start that the task gives is tried before.
    """
    x, found = task.inputs[where].clone(), torch.zeros_like(where, dtype=torch.bool)
    streams = Streams(task, where, "wrong start")
    pending = torch.arange(len(where), device=where.device)
    for attempt in range(tries + (task.start is not None)):
        rows = where[pending]
        if task.start is not None and attempt == 0:
            drawn = free[rows].project(task.start[rows])
        else:
            drawn = _draw(task, streams)
        wrong = offer(task, free, rows, drawn, norm)
        hit = pending[wrong]
        x[hit], found[hit] = drawn[wrong], True
        left = (~wrong).nonzero().squeeze(1)
        if not len(left):
            break
        pending = pending[left]
        streams.keep(left)
    return where[found], x[found]


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
