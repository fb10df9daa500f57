"""Kernel Inception Distance: the squared maximum mean discrepancy between two sets of features.

Bińkowski et al. 2018 (arXiv 1801.01401): the polynomial kernel ``(x'y / F + 1)^3`` and the unbiased estimator, which,
unlike the Fréchet distance, has no bias that shrinks with the number of images.
"""

import torch
from torch import Tensor

from securegan.errors import UserError

DEGREE = 3
BLOCK = 1024  # rows of the kernel matrix held at a time


def kernel_distance(real: Tensor, fake: Tensor) -> float:
    """The unbiased squared MMD between features ``(M, F)`` and ``(N, F)``; around zero for equal distributions.

    All pairs are used at once. Published figures average subsets of 1,000 pairs of images, which estimates the same
    quantity with more noise; where both sets are one such subset the two are the same number.

    Raises:
        UserError: where either side has fewer than two images.
    """
    if min(len(real), len(fake)) < 2:
        raise UserError(f"a kernel distance needs two images on each side, and there are {len(real)} and {len(fake)}.")
    real, fake = real.detach().to("cpu", torch.float64), fake.detach().to("cpu", torch.float64)
    return _own_mean(real) + _own_mean(fake) - 2 * _kernel_sum(real, fake) / (len(real) * len(fake))


def _own_mean(rows: Tensor) -> float:
    """The mean kernel over pairs of different rows."""
    own = float(((rows.square().sum(1) / rows.shape[1] + 1) ** DEGREE).sum())
    return (_kernel_sum(rows, rows) - own) / (len(rows) * (len(rows) - 1))


def _kernel_sum(a: Tensor, b: Tensor) -> float:
    return sum(float(((part @ b.T / b.shape[1] + 1) ** DEGREE).sum()) for part in a.split(BLOCK))
