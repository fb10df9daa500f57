"""Streaming means and covariances of features, in float64, that merge exactly over batches and ranks.

Kept as (n, mean, scatter about the mean), merged by the pairwise update of Chan, Golub & LeVeque (1983), which stays
accurate where the mean is large beside the spread, as the textbook sum of squares does not.
"""

from typing import Self

import torch
from torch import Tensor

from securegan.errors import UserError
from securegan.metrics.distributed import all_sum


class ClassMoments:
    """Per-class means and one tied covariance of features ``(N, dim)`` with labels ``(N,)``, on the CPU.

    The tied covariance is the scatter of every row about the mean of its own class, as a Mahalanobis detector wants
    it (Lee et al. 2018, arXiv 1807.03888, eq. 1).
    """

    def __init__(self, num_classes: int, dim: int) -> None:
        self.num_classes, self.dim = num_classes, dim
        self.counts = torch.zeros(num_classes, dtype=torch.int64)
        self.means = torch.zeros(num_classes, dim, dtype=torch.float64)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64)

    @property
    def n(self) -> int:
        """How many rows were seen."""
        return int(self.counts.sum())

    def update(self, features: Tensor, labels: Tensor) -> Self:
        """Adds rows ``(N, dim)`` with labels ``(N,)``; rows labelled -1 (unlabelled) are left out."""
        rows = features.detach().to("cpu", torch.float64)
        classes = labels.detach().to("cpu", torch.int64)
        if rows.dim() != 2 or rows.shape[1] != self.dim or classes.shape != rows.shape[:1]:
            raise ValueError(f"want (N, {self.dim}) and (N,), got {tuple(features.shape)} and {tuple(labels.shape)}")
        rows, classes = rows[classes >= 0], classes[classes >= 0]
        batch = ClassMoments(self.num_classes, self.dim)
        batch.counts = torch.bincount(classes, minlength=self.num_classes)
        sums = torch.zeros_like(self.means).index_add_(0, classes, rows)
        batch.means = sums / batch.counts.clamp(min=1)[:, None]
        centred = rows - batch.means[classes]
        batch.scatter = centred.T @ centred
        return self.merge(batch)

    def merge(self, other: "ClassMoments") -> Self:
        """Adds everything ``other`` has seen."""
        total = self.counts + other.counts
        gap = other.means - self.means
        share = other.counts / total.clamp(min=1).double()
        self.scatter = self.scatter + other.scatter + (gap * (self.counts * share)[:, None]).T @ gap
        self.means = self.means + gap * share[:, None]
        self.counts = total
        return self

    def reduce(self) -> "ClassMoments":
        """New moments of the rows of all ranks; every rank must call it."""
        whole = ClassMoments(self.num_classes, self.dim)
        whole.counts = all_sum(self.counts)
        whole.means = all_sum(self.means * self.counts[:, None]) / whole.counts.clamp(min=1)[:, None]
        gap = self.means - whole.means
        whole.scatter = all_sum(self.scatter + (gap * self.counts[:, None]).T @ gap)
        return whole

    def covariance(self, ddof: int = 0) -> Tensor:
        """The tied covariance ``(dim, dim)``: scatter over ``n - ddof`` (Lee et al. divide by n)."""
        if self.n <= ddof:
            raise UserError(f"a covariance needs at least {ddof + 1} rows of features, and there are {self.n}.")
        return self.scatter / (self.n - ddof)

    def state_dict(self) -> dict[str, Tensor]:
        """``counts``, ``means`` and ``scatter`` as tensors."""
        return {"counts": self.counts, "means": self.means, "scatter": self.scatter}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over what :meth:`state_dict` gave for the same ``num_classes`` and ``dim``."""
        for name, mine in self.state_dict().items():
            if state[name].shape != mine.shape:
                raise ValueError(f"{name} is {tuple(state[name].shape)}, expected {tuple(mine.shape)}")
            setattr(self, name, state[name].detach().to("cpu", mine.dtype, copy=True))


class Moments:
    """Mean and covariance of features ``(N, dim)``."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._single = ClassMoments(1, dim)

    @property
    def n(self) -> int:
        """How many rows were seen."""
        return self._single.n

    @property
    def mean(self) -> Tensor:
        """``(dim,)`` float64."""
        return self._single.means[0]

    def update(self, features: Tensor) -> Self:
        """Adds rows ``(N, dim)``."""
        self._single.update(features, torch.zeros(len(features), dtype=torch.int64))
        return self

    def reduce(self) -> "Moments":
        """New moments of the rows of all ranks; every rank must call it."""
        whole = Moments(self.dim)
        whole._single = self._single.reduce()
        return whole

    def covariance(self, ddof: int = 1) -> Tensor:
        """``(dim, dim)`` float64, over ``n - ddof``.

        Raises:
            UserError: where there are not more than ``ddof`` rows.
        """
        return self._single.covariance(ddof)

    def state_dict(self) -> dict[str, Tensor]:
        """Plain tensors, for a checkpoint."""
        return self._single.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over what :meth:`state_dict` gave."""
        self._single.load_state_dict(state)
