"""Structural similarity (Wang et al. 2004) and the fidelity built on it.

Data range 1, Gaussian window of sigma 1.5 and 11 pixels (7 where the smaller side is below 32), reflected at the
borders and averaged over all pixels and channels. The blur is a matrix on each axis, so that the many products of
:func:`highest_ssim` run as matrix products.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from securegan.judges.precision import full_float32

SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2  # the paper's constants at data range 1
FIDELITY_SIZE = 64  # px; larger images are area-averaged to this before their fidelity is taken
CPU_PAIR_ELEMENTS = 2**18  # floats in one chunk of pair products: 1 MiB stays in a core's cache
GPU_PAIR_ELEMENTS = 2**24  # 64 MiB keeps a GPU busy


def window_size(height: int, width: int) -> int:
    """Pixels of the Gaussian window for images of this size."""
    return 11 if min(height, width) >= 32 else 7


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """``(N,)`` SSIM of image pairs ``(N, C, H, W)`` in ``[0, 1]``, in float32 or better; differentiable in both."""
    if a.shape != b.shape or a.dim() != 4:
        raise ValueError(f"want two (N, C, H, W) of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    a, b = _at_least_float32(a), _at_least_float32(b)
    with full_float32(a.device.type):
        return _from_moments(*_mean_and_variance(a), *_mean_and_variance(b), _blur(a * b))


@torch.no_grad()
def highest_ssim(
    images: Tensor,
    references: Tensor,
    image_labels: Tensor | None = None,
    reference_labels: Tensor | None = None,
) -> Tensor:
    """The SSIM of each image to the reference most like it.

    Args:
        images: ``(N, C, H, W)`` in ``[0, 1]``.
        references: ``(M, C, H, W)`` in ``[0, 1]``, on the same device.
        image_labels: ``(N,)`` int64; with both labels given, only references of the image's own class count.
        reference_labels: ``(M,)`` int64.

    Returns:
        ``(N,)``; nan where no reference of the image's class exists. Memory is bounded whatever N and M are.
    """
    if images.shape[1:] != references.shape[1:]:
        raise ValueError(f"sizes differ: {tuple(images.shape[1:])} and {tuple(references.shape[1:])}")
    with full_float32(images.device.type):
        if image_labels is None or reference_labels is None:
            return _highest(images, references)
        best = _at_least_float32(images).new_full((len(images),), torch.nan)
        image_labels, reference_labels = image_labels.to(images.device), reference_labels.to(images.device)
        for label in image_labels.unique():
            own = reference_labels == label
            if own.any():
                best[image_labels == label] = _highest(images[image_labels == label], references[own])
        return best


def fidelity(
    images: Tensor,
    references: Tensor,
    image_labels: Tensor | None = None,
    reference_labels: Tensor | None = None,
) -> Tensor:
    """``(N,)`` fidelity: :func:`highest_ssim` to fixed held-out real ``references``, at no more than 64 pixels a side.

    Larger images are area-averaged to 64 pixels (on their longer side) first: the pair products of a 256-pixel set
    would cost 16 times as much, and what is left of the window's 11 pixels would see texture rather than structure.
    """
    return highest_ssim(_shrink(images), _shrink(references), image_labels, reference_labels)


def _shrink(images: Tensor) -> Tensor:
    longer = max(images.shape[2:])
    if longer <= FIDELITY_SIZE:
        return images
    target = [max(1, round(side * FIDELITY_SIZE / longer)) for side in images.shape[2:]]
    return F.interpolate(_at_least_float32(images), size=target, mode="area")


def _highest(images: Tensor, references: Tensor) -> Tensor:
    images, references = _at_least_float32(images), _at_least_float32(references)
    best = images.new_full((len(images),), -torch.inf)
    elements = CPU_PAIR_ELEMENTS if images.device.type == "cpu" else GPU_PAIR_ELEMENTS
    per_pair = max(1, math.prod(images.shape[1:]))
    columns = max(1, min(len(references), elements // per_pair))
    rows = max(1, elements // (per_pair * columns))
    for right in references.split(columns):
        right_mean, right_variance = _mean_and_variance(right)
        for start in range(0, len(images), rows):
            left = images[start : start + rows, None]  # (n, 1, C, H, W) against (m, C, H, W)
            pairs = _from_moments(*_mean_and_variance(left), right_mean, right_variance, _blur(left * right))
            best[start : start + rows] = torch.maximum(best[start : start + rows], pairs.amax(dim=1))
    return best


def _from_moments(mean_a: Tensor, var_a: Tensor, mean_b: Tensor, var_b: Tensor, blurred_product: Tensor) -> Tensor:
    """SSIM averaged over (C, H, W) from the local moments, eq. 13 of the paper."""
    product = mean_a * mean_b
    numerator = (2 * product + C1) * (2 * (blurred_product - product) + C2)
    denominator = (mean_a.square() + mean_b.square() + C1) * (var_a + var_b + C2)
    return (numerator / denominator).mean(dim=(-3, -2, -1))


def _mean_and_variance(images: Tensor) -> tuple[Tensor, Tensor]:
    mean = _blur(images)
    return mean, (_blur(images.square()) - mean.square()).clamp(min=0)


def _blur(images: Tensor) -> Tensor:
    """Gaussian-weighted local means of ``(..., H, W)``, transposed: ``(..., W, H)``.

    Both products are then of one tall matrix with a small one, several times faster than a batch of small ones; what
    becomes of the result, an average over all pixels, does not mind the order of its axes.
    """
    height, width = images.shape[-2:]
    size = window_size(height, width)
    along_rows = images @ _blur_matrix(width, size).to(images).T
    return along_rows.mT.contiguous() @ _blur_matrix(height, size).to(images).T


@lru_cache(maxsize=16)
def _blur_matrix(side: int, size: int) -> Tensor:
    """``(side, side)`` float64: row i holds the Gaussian window around pixel i, reflected at the borders."""
    reach = size // 2
    if side <= reach:
        raise ValueError(f"an SSIM window of {size} pixels needs sides above {reach} pixels, got {side}")
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-offsets.double().square() / (2 * SIGMA**2))
    columns = (torch.arange(side)[:, None] + offsets).abs()
    columns = torch.where(columns >= side, 2 * (side - 1) - columns, columns)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    return matrix.scatter_add_(1, columns, (weights / weights.sum()).expand(side, -1))


def _at_least_float32(images: Tensor) -> Tensor:
    return images if images.dtype in (torch.float32, torch.float64) else images.float()
