"""DCGAN networks for square images of any power-of-two size from 32 to 256.

Generator: transposed convolutions, batch norm, ReLU (Radford, Metz & Chintala 2016, arXiv 1511.06434).
Discriminator: strided convolutions, LeakyReLU and spectral norm (Miyato et al. 2018, arXiv 1802.05957), with an
authenticity head and an auxiliary class head (Odena et al. 2017, arXiv 1610.09585).
Images are ``(N, C, S, S)`` in ``[0, 1]``; the networks convert to ``[-1, 1]`` inside.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SIZES = (32, 64, 128, 256)
BASE = 4  # side of the innermost feature map
MAX_MULTIPLE = 8  # the widest layer has this many times `width` channels
CLASS_SCALE = 0.1  # of a class's embedding beside the code: where both weigh the same, the code is soon ignored


class DiscriminatorOutput(NamedTuple):
    """What one forward of a discriminator gives."""

    authenticity: Tensor  # (N,) logit, higher is more real
    class_logits: Tensor | None  # (N, K), None for unlabelled data
    features: tuple[Tensor, ...]  # intermediate feature maps, (N, C_l, H_l, W_l), inwards; the class head's own last


def level_widths(size: int, width: int) -> list[int]:
    """Channels of the feature maps from the image inwards, one for each halving down to 4x4."""
    levels = (size // BASE).bit_length() - 1
    return [width * min(2**level, MAX_MULTIPLE) for level in range(levels)]


class DCGANGenerator(nn.Module):
    """``G(z, y)``: latent codes ``(N, latent_dim)`` and classes ``(N,)`` to images ``(N, C, S, S)`` in ``[0, 1]``."""

    def __init__(self, latent_dim: int, num_classes: int, channels: int, size: int, width: int) -> None:
        super().__init__()
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.embedding = nn.Embedding(num_classes, latent_dim) if num_classes else None
        inputs = latent_dim * (2 if num_classes else 1)
        widths = level_widths(size, width)[::-1]
        layers: list[nn.Module] = [nn.ConvTranspose2d(inputs, widths[0], BASE, bias=False)]
        for narrow, wide in zip(widths[1:], widths, strict=False):
            layers += [nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(*layers)
        self.apply(_dcgan_init)
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, 0.0, CLASS_SCALE)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Images in ``[0, 1]`` for ``z`` and, where the data is labelled, classes ``y``."""
        if self.embedding is not None:
            if y is None:
                raise ValueError("a class-conditional generator needs classes y")
            z = torch.cat([z, self.embedding(y)], dim=1)
        return torch.tanh(self.layers(z[:, :, None, None])).add(1).mul(0.5)


class DCGANDiscriminator(nn.Module):
    """Two heads: real or generated, and (for labelled data) which class.

    The first ``shared_blocks`` blocks serve both heads, the others come in one copy each: robust classification and the
    game against the generator pull a shared trunk apart, and both suffer.
    """

    def __init__(
        self, num_classes: int, channels: int, size: int, width: int, class_width: int, shared_blocks: int
    ) -> None:
        super().__init__()
        self.num_classes, self.shared_blocks = num_classes, shared_blocks
        widths = [channels, *level_widths(size, width)]
        self.blocks = nn.ModuleList(_block(before, after) for before, after in pairwise(widths))
        flat = widths[-1] * BASE * BASE
        self.authenticity = spectral_norm(nn.Linear(flat, 1))
        own = [*widths[: shared_blocks + 1], *level_widths(size, class_width)[shared_blocks:]]
        pairs = list(pairwise(own))[shared_blocks:] if num_classes else []
        self.class_blocks = nn.ModuleList(_block(before, after) for before, after in pairs)
        self.classes = nn.Linear(own[-1] * BASE * BASE, num_classes) if num_classes else None

    def class_parameters(self) -> list[nn.Parameter]:
        """The parameters that serve the class head, alone or beside the other; none for unlabelled data."""
        if self.classes is None:
            return []
        shared = self.blocks[: self.shared_blocks].parameters()
        return [*shared, *self.class_blocks.parameters(), *self.classes.parameters()]

    def forward(self, images: Tensor) -> DiscriminatorOutput:
        """Both heads and the feature maps of ``images``."""
        features = _feature_maps(self.blocks, images * 2 - 1)
        authenticity = self._real(features[-1])
        if self.classes is None:
            return DiscriminatorOutput(authenticity, None, tuple(features[1:]))
        own = _feature_maps(self.class_blocks, features[self.shared_blocks])
        return DiscriminatorOutput(authenticity, self.classes(own[-1].flatten(1)), (*features[1:], *own[1:]))

    def authenticity_logits(self, images: Tensor) -> Tensor:
        """``(N,)``: the one head of :meth:`forward`, without the other's blocks."""
        return self._real(_feature_maps(self.blocks, images * 2 - 1)[-1])

    def class_logits(self, images: Tensor) -> Tensor:
        """``(N, K)``, likewise. Raises ValueError for unlabelled data."""
        if self.classes is None:
            raise ValueError("a discriminator of unlabelled data has no class head")
        hidden = _feature_maps(self.blocks[: self.shared_blocks], images * 2 - 1)[-1]
        return self.classes(_feature_maps(self.class_blocks, hidden)[-1].flatten(1))

    def _real(self, hidden: Tensor) -> Tensor:
        return self.authenticity(hidden.flatten(1)).squeeze(1)


def _feature_maps(blocks: Iterable[nn.Module], hidden: Tensor) -> list[Tensor]:
    """``hidden`` and the output of each of ``blocks`` in turn."""
    maps = [hidden]
    for block in blocks:
        maps.append(block(maps[-1]))
    return maps


def _block(before: int, after: int) -> nn.Module:
    return nn.Sequential(spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2))


def _dcgan_init(module: nn.Module) -> None:
    """Weights from N(0, 0.02), batch-norm scales from N(1, 0.02): section 4 of the DCGAN paper."""
    if isinstance(module, nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
