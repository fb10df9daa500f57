"""The inner maximisation on an autoencoder: inputs whose reconstructions are farthest from the clean images.

Projected ascent on ||r(x + d) - x||^2 (Madry et al. 2018, eq. 2.1, with the output attack of Kos et al. 2018, arXiv
1702.06832, section 4, as the adversary).
"""

import torch
from torch import Tensor

from securegan.attacks.engine import step_size
from securegan.attacks.shield import shielded
from securegan.attacks.spaces import PixelSpace, steepest
from securegan.attacks.threat import Norm
from securegan.models.base import GenerativeModule


def worst_inputs(
    module: GenerativeModule,
    images: Tensor,
    labels: Tensor | None,
    noise: Tensor,
    *,
    eps: float,
    norm: Norm,
    steps: int,
) -> Tensor:
    """``images (N, C, H, W)`` moved by at most ``eps`` after ``steps`` steps from the start that ``noise`` gives."""
    alpha = step_size(eps, steps)
    images = images.detach()
    with shielded(module.observers("autoencoder")):
        ball = PixelSpace().ball(images, eps, norm)
        x = ball.start(noise)
        for _ in range(steps):
            x = x.detach().requires_grad_(True)
            error = (module.reconstruct_raw(x, labels) - images).square().sum()
            (gradient,) = torch.autograd.grad(error, x)
            x = ball.project(x.detach() + alpha * steepest(gradient, norm))
    return x.detach()
