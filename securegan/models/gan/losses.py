"""GAN losses on authenticity logits, per example.

Non-saturating: Goodfellow et al. 2014, section 3. Hinge: Lim & Ye 2017, arXiv 1705.02894, and Miyato et al.
2018, eq. 16-17.
"""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

GANLoss = Literal["nonsaturating", "hinge"]


def discriminator_loss(logits: Tensor, real: Tensor, kind: GANLoss) -> Tensor:
    """``(N,)`` losses of the discriminator for ``logits (N,)`` and the truth ``real (N,)`` (bool)."""
    signed = logits.where(real, -logits)
    return F.softplus(-signed) if kind == "nonsaturating" else F.relu(1 - signed)


def generator_loss(logits: Tensor, kind: GANLoss) -> Tensor:
    """``(N,)`` losses of the generator for the discriminator's ``logits (N,)`` of its images."""
    return F.softplus(-logits) if kind == "nonsaturating" else -logits
