"""Square Attack (Andriushchenko et al. 2020, arXiv 1912.00049, Algorithms 1 to 3), in L-inf and L2 on pixels.

Random search on the margin: a square window of the perturbation is drawn anew and kept where the margin grows. In L-inf
a window goes to the ball's border with one sign a channel, from a start of vertical stripes; in L2 the norm within two
windows is gathered into one of them, from a start of tiles. The window's share p of the image halves nine times over
the budget (section 4.2, rescaled from the 10 000 queries it is given for).
"""

from bisect import bisect_left
from functools import cache
from typing import Any

import torch
from torch import Tensor

from securegan.attacks.evasion.base import EvasionAttack, Task
from securegan.attacks.evasion.black_box import Streams, ask, signs
from securegan.attacks.spaces import Ball, BoxBall, magnitude, per_example
from securegan.attacks.threat import Norm, Radii
from securegan.configuration.types import Fraction, PositiveInt

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10 000 queries


class Square(EvasionAttack):
    """Score based; an example's search ends where it is fooled or has had its queries."""

    name = "square"
    knowledge = "score"
    spaces = ("pixels",)
    norm: Norm

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        norm: Norm = "linf",
        queries: PositiveInt = 5000,
        restarts: PositiveInt = 1,
        p_init: Fraction = 0.8,
        **of_every_attack: Any,
    ) -> None:
        """Args:
        queries: of each restart, per example.
        p_init: share of the image that the first windows cover.
        of_every_attack: as of :class:`EvasionAttack`.
        """
        super().__init__(radii, norm, **of_every_attack)
        self.queries, self.restarts, self.p_init = queries, restarts, float(p_init)

    def search(self, task: Task) -> None:
        for restart in range(self.restarts):
            where = task.open()
            if not len(where):
                return
            self._run(task, where, restart)

    def _run(self, task: Task, where: Tensor, restart: int) -> None:
        ball, reference, streams = task.ball[where], task.reference[where], Streams(task, where, self.name, restart)
        if task.start is not None and restart == 0:
            x = ball.project(task.start[where])
        else:
            x = stripes(ball, streams) if self.norm == "linf" else tiles(ball, streams)
        margin, wrong = ask(task.surface, x, reference)
        for query in range(1, self.queries):
            if wrong.any():
                lost, live = wrong.nonzero().squeeze(1), (~wrong).nonzero().squeeze(1)
                settle(task, where[lost], x[lost], margin[lost], wrong[lost], query)
                if not len(live):
                    return
                x, margin, where, reference, ball = x[live], margin[live], where[live], reference[live], ball[live]
                streams.keep(live)
            side = self._side(query, x.shape)
            proposal = (redraw_linf if self.norm == "linf" else redraw_l2)(ball, x, side, streams)
            found, wrong = ask(task.surface, proposal, reference)
            better = wrong | (found > margin)
            x = torch.where(per_example(better, x), proposal, x)
            margin = torch.where(better, found, margin)
        settle(task, where, x, margin, wrong, self.queries)

    def _side(self, query: int, shape: torch.Size) -> int:
        """Of the window at a query, in pixels; odd in L2, and 3 at least."""
        height, width = shape[2:]
        share = self.p_init / 2 ** bisect_left(HALVINGS, query * 10_000 // self.queries)
        side = round((share * height * width) ** 0.5)
        return min(max(side, 1) if self.norm == "linf" else max(side, 3) | 1, height, width)


def settle(task: Task, where: Tensor, x: Tensor, margin: Tensor, wrong: Tensor, queries: int) -> None:
    """Offer what ``queries`` of the examples ``where`` have come to."""
    task.search.queries[where] += queries - 1  # the offer counts one
    task.search.offer(where, x, margin, wrong)


def stripes(ball: Ball, streams: Streams) -> Tensor:
    """Columns of the full radius, of a random sign each and in each channel."""
    _, channels, _, width = ball.origin.shape
    return ball.project(ball.origin + ball.eps * signs(streams.uniform(channels, 1, width)))


def redraw_linf(ball: Ball, x: Tensor, side: int, streams: Streams) -> Tensor:
    """``x`` with one window at the border of the ball, with one sign a channel (Algorithm 2)."""
    assert isinstance(ball, BoxBall)
    drawn = streams.round(2 + x.shape[1])
    window = windows(x, drawn[:, :2], side)
    low, high = (border.flatten(2).gather(2, window) for border in (ball.low, ball.high))
    return x.flatten(2).scatter(2, window, torch.where(drawn[:, 2:, None] < 0.5, low, high)).view_as(x)


def windows(x: Tensor, place: Tensor, side: int) -> Tensor:
    """``(N, C, side^2)`` indices into the pixels of images ``(N, C, H, W)``, of windows at uniform ``place (N, 2)``."""
    height, width = x.shape[2:]
    top, left = (place[:, 0] * (height - side + 1)).long(), (place[:, 1] * (width - side + 1)).long()
    corner = (top * width + left)[:, None, None]
    return (corner + _inside(side, width).to(x.device)).expand(-1, x.shape[1], -1)


@cache
def _inside(side: int, width: int) -> Tensor:
    """Where a window's pixels lie, counted from its corner, in images of ``width``."""
    along = torch.arange(side)
    return (along[:, None] * width + along).flatten()


def tiles(ball: Ball, streams: Streams) -> Tensor:
    """A grid of windows a fifth of the image wide, of a random sign in each channel, together of the full radius."""
    n, channels, height, width = ball.origin.shape
    side = max(min(height, width) // 5, 1)
    rows, columns = height // side, width // side
    drawn = streams.uniform(channels + 1, rows, columns, 1, 1)
    parts = oriented(side, drawn[:, -1:], ball.origin.device) * signs(drawn[:, :-1])
    grid = parts.permute(0, 1, 2, 4, 3, 5).reshape(n, channels, rows * side, columns * side)
    delta = torch.zeros_like(ball.origin)
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    delta[:, :, top : top + rows * side, left : left + columns * side] = grid
    return to_border(ball, delta)


def redraw_l2(ball: Ball, x: Tensor, side: int, streams: Streams) -> Tensor:
    """``x`` with the norm of two windows, and what the radius leaves, gathered in the first (Algorithm 3)."""
    channels = x.shape[1]
    drawn = streams.round(5 + channels)
    first, second = windows(x, drawn[:, :2], side), windows(x, drawn[:, 2:4], side)
    delta = (x - ball.origin).flatten(2)
    rest = delta.scatter(2, first, 0).scatter(2, second, 0)
    total = delta.square().sum(2, keepdim=True)
    freed = (total - rest.square().sum(2, keepdim=True)).clamp_min(0)
    unused = (ball.eps**2 - total.sum(1, keepdim=True)).clamp_min(0) / channels
    drawn_window = oriented(side, drawn[:, 4, None, None, None], x.device).flatten(2) * signs(drawn[:, 5:, None])
    fresh = drawn_window + unit(delta.gather(2, first))
    moved = rest.scatter(2, first, unit(fresh) * (freed + unused).sqrt())
    return to_border(ball, moved.view_as(x))


def to_border(ball: Ball, delta: Tensor) -> Tensor:
    """The origin moved by ``delta`` lengthened to the radius, as far as the image's range allows."""
    return ball.project(ball.origin + delta * per_example(ball.eps / magnitude(delta, "l2").clamp_min(1e-12), delta))


def unit(x: Tensor) -> Tensor:
    """``x`` of L2 norm 1 along its last dimension."""
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def oriented(side: int, chance: Tensor, device: torch.device) -> Tensor:
    """The bump of a window, upright or lying by ``chance (..., 1, 1)``: ``(..., side, side)``."""
    shape = bump(side).to(device)
    return torch.where(chance < 0.5, shape, shape.T)


@cache
def bump(side: int) -> Tensor:
    """``(side, side)`` of norm 1: two halves of opposite sign, each growing towards its centre (eq. 3 and 4)."""
    upper = side // 2
    halves = [_pyramid(upper, side), -_pyramid(side - upper, side)]
    shape = torch.cat(halves)
    return shape / shape.norm()


def _pyramid(height: int, width: int) -> Tensor:
    """Rings around the centre, each 1/k^2 above the next one outwards."""
    rings = max(height, width) // 2 + 1
    sums = (1 / torch.arange(1, rings + 1) ** 2).flip(0).cumsum(0).flip(0)
    down, across = ((torch.arange(n) - n // 2).abs() for n in (height, width))
    return sums[torch.maximum(down[:, None], across)]
