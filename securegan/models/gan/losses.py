"""GAN losses on authenticity logits, per example or per pair of a real and a generated one.

Non-saturating: Goodfellow et al. 2014, section 3. Hinge: Lim & Ye 2017, arXiv 1705.02894, and Miyato et al.
2018, eq. 16-17. Wasserstein: Arjovsky et al. 2017, arXiv 1701.07875, eq. 3, whose discriminator must be held to bounded
slopes by spectral norm or a penalty. Relativistic: the pairing RpGAN of Jolicoeur-Martineau 2020, arXiv 1901.02474,
that R3GAN builds on (Huang et al. 2025, arXiv 2501.05441, eq. 2).
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

GANLoss = Literal["nonsaturating", "hinge", "relativistic", "wasserstein"]


def discriminator_loss(logits: Tensor, real: Tensor, kind: GANLoss) -> Tensor:
    """``(N,)`` losses of the discriminator for ``logits (N,)`` and the truth ``real (N,)`` (bool).

    Raises ValueError for ``relativistic``, which has no loss of one image: see :func:`paired_loss`.
    """
    signed = logits.where(real, -logits)
    match kind:
        case "nonsaturating":
            return F.softplus(-signed)
        case "hinge":
            return F.relu(1 - signed)
        case "wasserstein":
            return -signed
    raise ValueError("the relativistic loss is one of pairs")


def generator_loss(logits: Tensor, kind: GANLoss) -> Tensor:
    """``(N,)`` losses of the generator for the discriminator's ``logits (N,)`` of its images.

    Raises ValueError for ``relativistic``.
    """
    match kind:
        case "nonsaturating":
            return F.softplus(-logits)
        case "hinge" | "wasserstein":
            return -logits
    raise ValueError("the relativistic loss is one of pairs")


def paired_loss(ahead: Tensor, behind: Tensor) -> Tensor:
    """``(max(N, M),)`` relativistic losses where ``ahead (N,)`` should exceed ``behind (M,)``.

    The discriminator wants real logits ahead of generated ones, the generator the reverse. The shorter side is read
    again from its start until the pairs are complete.
    """
    pairs = torch.arange(max(len(ahead), len(behind)), device=ahead.device)
    return F.softplus(behind[pairs % len(behind)] - ahead[pairs % len(ahead)])


Part = tuple[Tensor, bool, float]
"""Logits ``(N,)`` of the images of one origin, whether they are real, and their weight in the loss."""


def discriminator_losses(parts: Sequence[Part], kind: GANLoss) -> list[Tensor]:
    """Weighted mean losses that add up to the discriminator's adversarial loss: one a part, or one a pair of parts.

    Relativistic parts pair up in order of appearance: the clean real images with the clean generated ones, then each
    perturbed part with the one of the other side that was perturbed beside it. A pair weighs what its parts do on
    average. A part left over meets the clean part of the other side and keeps its own weight.

    Raises ValueError for relativistic parts of one side alone.
    """
    if kind != "relativistic":
        means = (discriminator_loss(x, torch.full_like(x, real, dtype=torch.bool), kind).mean() for x, real, _ in parts)
        return [weight * mean for mean, (_, _, weight) in zip(means, parts, strict=True)]
    real, fake = ([part for part in parts if part[1] is side] for side in (True, False))
    if not real or not fake:
        raise ValueError("the relativistic loss needs real and generated images")
    losses = []
    for one, other in zip_longest(real, fake):
        weights = [part[2] for part in (one, other) if part is not None]
        loss = paired_loss((one or real[0])[0], (other or fake[0])[0]).mean()
        losses.append(sum(weights) / len(weights) * loss)
    return losses
