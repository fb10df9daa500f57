"""How far an autoencoder's output comes to a target image for how much distortion of its input.

The area under the distortion-distortion curve (Gondim-Ribeiro et al. 2018, arXiv 1806.04646): ||r(x + d) - x_t|| over
||d||. Both axes are normalised: distortion by ||x - x_t||, the distance from 1 at d = 0 to 0 at d = x_t - x. An output
that follows its input in proportion has 0.5; less is easier to attack, more is harder.
"""

from typing import NamedTuple

import torch
from torch import Tensor

GRID = 101  # points of the curve


class DistortionCurve(NamedTuple):
    """Of N inputs; nan where the target is no nearer to its own reconstruction than to the input's."""

    area: Tensor  # (N,)
    distance: Tensor  # (N, GRID) at equal steps of the normalised distortion from 0 to 1


def distortion_curve(
    distortion: Tensor, distance: Tensor, *, span: Tensor, clean: Tensor, reached: Tensor
) -> DistortionCurve:
    """The curves through what attacks of several radii found; a larger distortion never counts as a worse attack.

    An output nearer to the target than the target's own reconstruction counts as that one.

    Args:
        distortion: ``(N, R)`` ||d||, in any order.
        distance: ``(N, R)`` ||r(x + d) - x_t||.
        span: ``(N,)`` ||x - x_t||.
        clean: ``(N,)`` ||r(x) - x_t||.
        reached: ``(N,)`` ||r(x_t) - x_t||.
    """
    if distortion.shape != distance.shape or distortion.dim() != 2:
        raise ValueError(f"want two (N, R) of one shape, got {tuple(distortion.shape)} and {tuple(distance.shape)}")
    span, clean, reached = (values.double()[:, None] for values in (span, clean, reached))
    x, y = distortion.double() / span, ((distance.double() - reached) / (clean - reached)).clamp_min(0)
    beyond = x >= 1
    x, y = x.where(~beyond, 1), y.where(~beyond, 0)
    x, order = torch.cat([torch.zeros_like(span), x, torch.ones_like(span)], 1).sort(stable=True, dim=1)
    y = torch.cat([torch.ones_like(span), y, torch.zeros_like(span)], 1).gather(1, order).cummin(1).values
    area = ((x[:, 1:] - x[:, :-1]) * (y[:, 1:] + y[:, :-1]) / 2).sum(1)
    grid = torch.linspace(0, 1, GRID, dtype=x.dtype, device=x.device).expand(len(x), GRID).contiguous()
    right = torch.searchsorted(x.contiguous(), grid).clamp(1, x.shape[1] - 1)
    left = right - 1
    step = (x.gather(1, right) - x.gather(1, left)).clamp_min(1e-30)
    share = (grid - x.gather(1, left)) / step
    curve = y.gather(1, left).lerp(y.gather(1, right), share.clamp(0, 1))
    defined = (clean > reached) & (span > 0)
    return DistortionCurve(area.where(defined[:, 0], torch.nan), curve.where(defined, torch.nan))
