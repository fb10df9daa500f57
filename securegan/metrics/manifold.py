"""Precision, recall, density and coverage: whether generated images lie among the real ones, and cover them.

Precision and recall of Kynkäänniemi et al. 2019 (arXiv 1904.06991, eq. 1), density and coverage of Naeem et al. 2020
(arXiv 2002.09797, eq. 3 and 5): all from balls around images, as wide as the k-th nearest neighbour of their own set.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from securegan.errors import UserError

NEIGHBOURS = 3  # of precision and recall
WIDE_NEIGHBOURS = 5  # of density and coverage, as their authors chose
BLOCK = 1024  # rows of the distance matrix held at a time


class ManifoldScores(NamedTuple):
    """All but density are shares; density is about 1 for real images and may exceed it."""

    precision: float  # share of generated images inside some real image's ball
    recall: float  # share of real images inside some generated image's ball
    density: float  # real balls around a generated image, over the k that real data would show
    coverage: float  # share of real images whose ball holds a generated one


def manifold_scores(real: Tensor, fake: Tensor) -> ManifoldScores:
    """Scores of generated features ``(N, F)`` against real ones ``(M, F)``; memory is bounded whatever M and N are.

    Recall falls and coverage rises with N, so only equal numbers may be compared.

    Raises:
        UserError: where a side has too few images for a 5th neighbour.
    """
    least = WIDE_NEIGHBOURS + 1
    if min(len(real), len(fake)) < least:
        raise UserError(
            f"precision and recall need {least} images on each side, and there are {len(real)} and {len(fake)}."
        )
    real, fake = real.detach().double(), fake.detach().double()
    near, wide = _reaches(real, (NEIGHBOURS, WIDE_NEIGHBOURS))
    (own,) = _reaches(fake, (NEIGHBOURS,))
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    covered, inside, within = recalled.clone(), 0, 0
    for start in range(0, len(fake), BLOCK):
        distances = _distances(real, fake[start : start + BLOCK])  # (M, n)
        inside += int((distances <= near[:, None]).any(0).sum())
        held = distances <= wide[:, None]
        within += int(held.sum())
        covered |= held.any(1)
        recalled |= (distances <= own[start : start + BLOCK]).any(1)
    return ManifoldScores(
        precision=inside / len(fake),
        recall=float(recalled.double().mean()),
        density=within / (WIDE_NEIGHBOURS * len(fake)),
        coverage=float(covered.double().mean()),
    )


def _reaches(rows: Tensor, neighbours: tuple[int, ...]) -> list[Tensor]:
    """For each k the ``(N,)`` distances of rows to their k-th nearest other row."""
    nearest = []
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        distances = _distances(part, rows)
        own = torch.arange(len(part), device=rows.device)
        distances[own, own + start] = torch.inf  # a row is not its own neighbour
        nearest.append(distances.topk(max(neighbours), dim=1, largest=False).values)
    ordered = torch.cat(nearest)
    return [ordered[:, k - 1] for k in neighbours]


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """``(len(a), len(b))`` without the shortcut through products, which loses the digits that near neighbours need."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
