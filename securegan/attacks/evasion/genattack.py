"""GenAttack (Alzantot et al. 2019, arXiv 1805.11090, Algorithm 1), score based, in L-inf.

A genetic search: parents are drawn by the softmax of their fitness, a child takes each value from one of its two
parents in proportion to their shares, and each of its values is moved with probability rho by a uniform amount of at
most alpha eps; the fittest goes on unchanged. rho and alpha start large and shrink by a tenth with every plateau of 100
generations without a fitter one (section 3.2.5). The fitness is the margin, of whatever goal, divided by its standard
deviation in the population, since surfaces give scores of any scale.
"""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from securegan.attacks.evasion.base import EvasionAttack, Task
from securegan.attacks.evasion.black_box import Streams, ask, best_of
from securegan.attacks.spaces import Ball
from securegan.attacks.threat import Norm, Radii
from securegan.configuration.types import Fraction, PositiveFloat, PositiveInt

PLATEAU = 100  # generations without a fitter one
FIRST_RHO, FIRST_ALPHA, DECAY = 0.5, 0.4, 0.9


class GenAttack(EvasionAttack):
    """An example's search ends where a member of its population fools or its queries are spent."""

    name = "genattack"
    knowledge = "score"
    norm: Norm

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        queries: PositiveInt = 5000,
        population: Annotated[PositiveInt, Ge(2)] = 6,
        rho_min: Fraction = 0.1,
        alpha_min: Fraction = 0.15,
        temperature: PositiveFloat = 0.3,
        **of_every_attack: Any,
    ) -> None:
        """Args:
        queries: per example.
        population: members of a generation, the fittest of the last one among them.
        rho_min: least probability that a value is moved.
        alpha_min: least range that it is moved by, in radii.
        temperature: of the draw of parents; small ones favour the fittest.
        of_every_attack: as of :class:`EvasionAttack`.
        """
        super().__init__(radii, "linf", **of_every_attack)
        self.queries, self.population, self.temperature = queries, population, float(temperature)
        self.rho_min, self.alpha_min = float(rho_min), float(alpha_min)

    def search(self, task: Task) -> None:
        where = task.open()
        ball, streams = task.ball[where], Streams(task, where, self.name)
        size = min(self.population, self.queries)
        noise = 2 * streams.uniform(size, *task.inputs.shape[1:]) - 1
        members = torch.stack([ball.start(one) for one in noise.unbind(1)], 1)  # (N, population, ...)
        if task.start is not None:
            members[:, 0] = ball.project(task.start[where])
        fitness, wrong = self._judge(task, where, members)
        waited, plateaus = torch.zeros_like(where), torch.zeros_like(where)
        spent = size
        while spent < self.queries and size > 1:
            if wrong.any():
                live = (~wrong).nonzero().squeeze(1)
                if not len(live):
                    return
                where, members, fitness, waited, plateaus = (
                    part[live] for part in (where, members, fitness, waited, plateaus)
                )
                ball = ball[live]
                streams.keep(live)
            n = min(size - 1, self.queries - spent)
            spent += n
            children = self._children(ball, members, fitness, plateaus, n, streams)
            found, wrong = self._judge(task, where, children)
            improved = found.amax(1) > fitness.amax(1)
            elite = fitness.argmax(1, keepdim=True)
            rows = torch.arange(len(where), device=where.device)[:, None]
            members = torch.cat([members[rows, elite], children], 1)
            fitness = torch.cat([fitness.gather(1, elite), found], 1)
            waited = torch.where(improved, 0, waited + 1)
            plateaus, waited = plateaus + waited // PLATEAU, waited % PLATEAU

    def _judge(self, task: Task, where: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """``(fitness (N, members), wrong (N,))``; every member counts, each example's best is offered."""
        n, count = members.shape[:2]
        margin, wrong = ask(task.surface, members.flatten(0, 1), task.reference[where].repeat_interleave(count))
        margin, wrong = margin.view(n, count), wrong.view(n, count)
        best, at = best_of(margin, wrong), torch.arange(n, device=where.device)
        task.search.queries[where] += count - 1  # the offer counts one
        task.search.offer(where, members[at, best], margin[at, best], wrong[at, best])
        return margin, wrong.any(1)

    def _children(
        self, ball: Ball, members: Tensor, fitness: Tensor, plateaus: Tensor, count: int, streams: Streams
    ) -> Tensor:
        """``(N, count, ...)`` crossed and mutated offspring, inside the ball."""
        size = ball.origin[0].numel()
        flat = members.flatten(2)
        spread = fitness.std(1, keepdim=True).clamp_min(1e-12)
        chances = ((fitness - fitness.amax(1, keepdim=True)) / (self.temperature * spread)).softmax(1)
        drawn = streams.uniform(count, 2 + 2 * size)
        parents = torch.searchsorted(chances.cumsum(1), drawn[:, :, :2].flatten(1)).clamp_max(len(chances[0]) - 1)
        first, second = parents.view(len(flat), count, 2).unbind(2)
        mine, other = chances.gather(1, first)[:, :, None], chances.gather(1, second)[:, :, None]
        rows = torch.arange(len(flat), device=flat.device)[:, None]
        cross, mutate = drawn[:, :, 2:].split(size, 2)
        children = torch.where(cross < mine / (mine + other), flat[rows, first], flat[rows, second])
        shrunk = DECAY ** plateaus.float()[:, None, None]
        rho, alpha = (FIRST_RHO * shrunk).clamp_min(self.rho_min), (FIRST_ALPHA * shrunk).clamp_min(self.alpha_min)
        moved = alpha * ball.eps * (2 * mutate / rho - 1)  # uniform where mutate < rho
        children = torch.where(mutate < rho, children + moved, children).view(len(flat), count, *members.shape[2:])
        return torch.stack([ball.project(one) for one in children.unbind(1)], 1)
