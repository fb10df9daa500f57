"""What a decoder's output says of an image: distortions per pixel value, in nats.

Gaussian: one variance shared by all pixel values at its maximum-likelihood value for the batch, so that no weight
between distortion and KL has to be chosen (sigma-VAE, Rybkin et al. 2021, arXiv 2006.13202, section 4.3). SSIM: the
same on a geometric mean of squared error and 1 - SSIM (after Snell et al. 2017, arXiv 1511.06409).
Discretized logistic: a probability of each of 256 levels, with a learned scale a channel (Kingma et al. 2016, arXiv
1606.04934, appendix; Salimans et al. 2017, arXiv 1701.05517, section 2.1).
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from securegan.metrics.ssim import ssim

Likelihood = Literal["gaussian", "ssim", "discretized_logistic"]
LEVELS = 256
SMALLEST = 1e-7  # squared error below which an image counts as given back exactly


class Distortion(nn.Module):
    """Nats per pixel value of ``targets`` under outputs, a mean over weighted images."""

    def __init__(self, kind: Likelihood, channels: int, ssim_weight: float) -> None:
        super().__init__()
        self.kind, self.ssim_weight = kind, ssim_weight
        self.log_scale = nn.Parameter(torch.full((channels, 1, 1), -3.0)) if kind == "discretized_logistic" else None

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """A scalar; ``outputs`` and ``targets`` are ``(N, C, H, W)`` in ``[0, 1]``, ``weights (N,)`` sum to 1."""
        outputs = outputs.float()
        if self.log_scale is not None:
            return (weights * self._discretized(outputs, targets).flatten(1).mean(1)).sum()
        error = (weights * F.mse_loss(outputs, targets, reduction="none").mean((1, 2, 3))).sum()
        nats = 0.5 * (error + SMALLEST).log()
        if self.kind == "ssim":
            unlike = (weights * (1 - ssim(outputs, targets))).sum()
            nats = torch.lerp(nats, 0.5 * (unlike + SMALLEST).log(), self.ssim_weight)
        return nats + 0.5 * math.log(2 * math.pi * math.e)

    def _discretized(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Minus the log probability of the level of each target, in the image's shape.

        With s the logistic function and a > b, ``s(a) - s(b) = s(a) s(-b) (1 - exp(b - a))``, whose logarithm neither
        cancels nor loses its gradient in the tails.
        """
        assert self.log_scale is not None
        levels = (targets * (LEVELS - 1)).round()
        step = 1 / (LEVELS - 1)
        centred, inverse = levels * step - outputs, (-self.log_scale.clamp(-7, 2)).exp()
        above, below = (centred + step / 2) * inverse, (centred - step / 2) * inverse
        up_to, from_on = F.logsigmoid(above), F.logsigmoid(-below)
        inner = up_to + from_on + (-torch.expm1(-step * inverse)).log()
        return -torch.where(levels == 0, up_to, torch.where(levels == LEVELS - 1, from_on, inner))
