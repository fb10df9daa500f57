"""Few-pixel attack (Su et al. 2019, arXiv 1710.08864, section III): differential evolution on k pixels.

A candidate is k places and the colours put there. A generation replaces each candidate by a + F (b - c), of three
others of the last generation, where that has the higher margin. There is no crossover. Places are reflected at the
image's edges and colours cut to [0, 1].
"""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from securegan.attacks.evasion.base import EvasionAttack, Task
from securegan.attacks.evasion.black_box import Streams, ask, best_of
from securegan.attacks.threat import Radii
from securegan.configuration.types import PositiveFloat, PositiveInt

AT_ONCE = 4096  # images in memory


class FewPixel(EvasionAttack):
    """The radius is the number of pixels; an example's search ends where a candidate fools or its queries are spent."""

    name = "few_pixel"
    knowledge = "score"
    spaces = ("pixels",)

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        queries: PositiveInt = 40_000,
        population: Annotated[PositiveInt, Ge(4)] = 400,
        scale: PositiveFloat = 0.5,
        **of_every_attack: Any,
    ) -> None:
        """Args:
        queries: per example; the paper's 100 generations of 400.
        population: candidates of a generation.
        scale: F, of the differences.
        of_every_attack: as of :class:`EvasionAttack`; ``eps`` is the number of pixels.
        """
        super().__init__(radii, "l0", **of_every_attack)
        self.queries, self.population, self.scale = queries, population, float(scale)

    def search(self, task: Task) -> None:
        channels, height, width = task.inputs.shape[1:]
        pixels = min(int(task.ball.eps), height * width)
        if not pixels:
            return
        where, size = task.open(), min(self.population, self.queries)
        streams = Streams(task, where, self.name)
        genes = streams.uniform(size, pixels, 2 + channels)
        genes[..., 2:] = (0.5 + 0.5 * streams.normal(size, pixels, channels)).clamp(0, 1)  # N(128, 127) of 255
        margin, wrong = self._judge(task, where, genes)
        spent = size
        while spent < self.queries and size > 3:
            if wrong.any():
                live = (~wrong).nonzero().squeeze(1)
                if not len(live):
                    return
                where, genes, margin = where[live], genes[live], margin[live]
                streams.keep(live)
            n = min(size, self.queries - spent)
            spent += n
            children = self._children(genes, streams)[:, :n]
            found, wrong = self._judge(task, where, children)
            better = found > margin[:, :n]
            genes[:, :n] = torch.where(better[:, :, None, None], children, genes[:, :n])
            margin[:, :n] = torch.maximum(found, margin[:, :n])

    def _children(self, genes: Tensor, streams: Streams) -> Tensor:
        """One child a candidate, of three distinct members each."""
        n, size = genes.shape[:2]
        drawn = streams.uniform(3, size)
        a = (drawn[:, 0] * size).long()
        b = (a + 1 + (drawn[:, 1] * (size - 1)).long()) % size
        c = (drawn[:, 2] * (size - 2)).long()
        c = c + (c >= torch.minimum(a, b)).long()
        c = c + (c >= torch.maximum(a, b)).long()
        rows = torch.arange(n, device=genes.device)[:, None]
        child = genes[rows, a] + self.scale * (genes[rows, b] - genes[rows, c])
        place, colour = child[..., :2], child[..., 2:]
        return torch.cat([1 - (1 - place.remainder(2)).abs(), colour.clamp(0, 1)], -1)

    def _judge(self, task: Task, where: Tensor, genes: Tensor) -> tuple[Tensor, Tensor]:
        """``(margin (N, candidates), wrong (N,))``; every candidate counts, each example's best is offered."""
        n, count = genes.shape[:2]
        rows = where.repeat_interleave(count)
        margins, wrongs = [], []
        for part, some in zip(rows.split(AT_ONCE), genes.flatten(0, 1).split(AT_ONCE), strict=True):
            margin, wrong = ask(task.surface, painted(task.inputs[part], some), task.reference[part])
            margins.append(margin)
            wrongs.append(wrong)
        margin, wrong = torch.cat(margins).view(n, count), torch.cat(wrongs).view(n, count)
        best, at = best_of(margin, wrong), torch.arange(n, device=where.device)
        task.search.queries[where] += count - 1  # the offer counts one
        task.search.offer(where, painted(task.inputs[where], genes[at, best]), margin[at, best], wrong[at, best])
        return margin, wrong.any(1)


def painted(x: Tensor, genes: Tensor) -> Tensor:
    """Images ``(N, C, H, W)`` with the pixels ``genes (N, k, 2 + C)``: place in ``[0, 1]`` of the sides, and colour."""
    height, width = x.shape[2:]
    x, rows = x.clone(), torch.arange(len(x), device=x.device)
    places = (genes[..., :2] * torch.tensor([height, width], device=x.device)).long()
    top, left = places[..., 0].clamp_max(height - 1), places[..., 1].clamp_max(width - 1)
    for pixel in range(genes.shape[1]):  # in turn: two genes may name one place
        x[rows, :, top[:, pixel], left[:, pixel]] = genes[:, pixel, 2:]
    return x
