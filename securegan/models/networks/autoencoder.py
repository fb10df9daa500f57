"""An encoder and the decoder behind it.

Encoder: strided convolutions, batch norm and LeakyReLU, the mirror of the DCGAN generator (Larsen et al. 2016, arXiv
1512.09300, table 1), or the residual blocks of :mod:`securegan.models.networks.resnet` with a batch norm behind each;
to the mean and log variance of a diagonal Gaussian (Kingma & Welling 2014, arXiv 1312.6114).
"""

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from securegan.models.networks.discriminator import BASE, level_widths, normaliser
from securegan.models.networks.resnet import DownBlock, SelfAttention

Network = Literal["dcgan", "resnet"]

LOG_VARIANCE = (-12.0, 4.0)  # beyond these bounds exp() of it is as good as 0, or spoils the decoder


class Posterior(NamedTuple):
    """What an encoder says of N images."""

    mean: Tensor  # (N, latent_dim)
    log_variance: Tensor  # (N, latent_dim)

    def sample(self, noise: Tensor) -> Tensor:
        """Codes for standard normal ``noise``: the reparametrisation of Kingma & Welling 2014, section 2.4."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def divergence(self) -> Tensor:
        """``(N,)`` KL divergences from the standard normal prior, nats (Kingma & Welling 2014, appendix B).

        Near the prior its terms cancel, so the two must be in float32.
        """
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance).sum(1)


class Encoder(nn.Module):
    """Images ``(N, C, S, S)`` in ``[0, 1]`` to a diagonal Gaussian over codes."""

    def __init__(
        self,
        network: Network,
        latent_dim: int,
        channels: int,
        size: int,
        width: int,
        attention: int | None = None,
    ) -> None:
        """Args: attention: side of the feature map that attends to itself."""
        super().__init__()
        widths = [channels, *level_widths(size, width)]
        make = _residual if network == "resnet" else _plain
        self.blocks = nn.ModuleList()
        for level, (before, after) in enumerate(pairwise(widths)):
            block = make(before, after, of_image=not level)
            if attention == size // 2 ** (level + 1):
                block.append(SelfAttention(after, normaliser(False)))
            self.blocks.append(block)
        self.head = nn.Linear(widths[-1] * BASE * BASE, 2 * latent_dim)
        nn.init.zeros_(self.head.bias)

    def feature_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """``(N, C_l, H_l, W_l)`` of each block, inwards."""
        hidden, maps = images * 2 - 1, []
        for block in self.blocks:
            hidden = block(hidden)
            maps.append(hidden)
        return tuple(maps)

    def forward(self, images: Tensor) -> Posterior:
        """The posterior of the codes of ``images``, in float32 under autocast too."""
        hidden = self.feature_maps(images)[-1].flatten(1)
        with torch.autocast(images.device.type, enabled=False):
            mean, log_variance = self.head(hidden.float()).chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(*LOG_VARIANCE))


class Autoencoder(nn.Module):
    """Encoder and decoder under one name, so that one moving average holds both."""

    def __init__(self, encoder: Encoder, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """The reconstruction ``(N, C, H, W)`` of ``images`` from the means of their codes."""
        return self.decoder(self.encoder(images).mean, labels)


def _plain(before: int, after: int, *, of_image: bool) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.LeakyReLU(0.2))


def _residual(before: int, after: int, *, of_image: bool) -> nn.Sequential:
    return nn.Sequential(DownBlock(before, after, normaliser(False), of_image=of_image), nn.BatchNorm2d(after))


@torch.no_grad()
def codes_of(encoder: Encoder, images: Tensor) -> Tensor:
    """``(N, latent_dim)`` means of the codes of ``images``, without gradients."""
    return encoder(images).mean
