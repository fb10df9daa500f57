"""What attacks without gradients share: questions to a surface, and a random stream of its own for every example."""

import torch
from torch import Tensor

from securegan.attacks.evasion.base import Task
from securegan.attacks.surfaces import Surface
from securegan.randomness import generator

CHUNK = 256  # inputs of one forward pass
BLOCK = 4096  # numbers that a stream draws at once


def ask(surface: Surface, x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """``(margin (N,), wrong (N,))`` of inputs ``(N, ...)``, without gradients; one query each."""
    with torch.no_grad():
        if len(x) <= CHUNK:
            view = surface.assess(x, reference, "margin")
            return view.margin, ~view.right
        chunks = zip(x.split(CHUNK), reference.split(CHUNK), strict=True)
        views = [surface.assess(part, asked, "margin") for part, asked in chunks]
    return torch.cat([view.margin for view in views]), ~torch.cat([view.right for view in views])


class Streams:
    """Random numbers of which an example's depend on the attack's purpose and the example's key alone.

    Every example consumes its own stream, a fixed number of values each round, whoever is searched beside it.
    """

    def __init__(self, task: Task, where: Tensor, *parts: int | str) -> None:
        """Args:
        where: ``(N,)`` the examples, by their place in the task; without keys that place stands for the key.
        parts: name the streams within the task.
        """
        keys = task.keys_of(where)
        self.sources = [generator(*task.purpose, *parts, key) for key in (where if keys is None else keys).tolist()]
        self.device = task.inputs.device
        self._block, self._left = torch.zeros(0), 0

    def uniform(self, *shape: int) -> Tensor:
        """``(N, *shape)`` uniform in ``[0, 1)``."""
        values = torch.empty(len(self.sources), *shape)
        for row, source in zip(values.unbind(0), self.sources, strict=True):
            row.uniform_(generator=source)
        return values.to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """``(N, *shape)`` standard normal."""
        values = torch.empty(len(self.sources), *shape)
        for row, source in zip(values.unbind(0), self.sources, strict=True):
            row.normal_(generator=source)
        return values.to(self.device)

    def round(self, width: int, *, normal: bool = False) -> Tensor:
        """``(N, width)`` for one round of many alike, drawn a block of rounds at a time."""
        if not self._left:
            self._left = max(1, BLOCK // width)
            draw = self.normal if normal else self.uniform
            self._block = draw(self._left, width)
        self._left -= 1
        return self._block[:, -1 - self._left]

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the examples, by their place among the present ones."""
        self.sources = [self.sources[row] for row in rows.tolist()]
        self._block = self._block[rows] if self._left else self._block


def signs(uniform: Tensor) -> Tensor:
    """-1 or 1 with equal chance, from uniform numbers."""
    return torch.where(uniform < 0.5, -1.0, 1.0)


def best_of(margin: Tensor, wrong: Tensor) -> Tensor:
    """``(N,)`` the place of each example's best of ``(N, K)``: the highest margin, among the wrong where some are."""
    return torch.where(wrong.any(1, keepdim=True) & ~wrong, -torch.inf, margin).argmax(1)
