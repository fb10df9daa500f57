"""DCGAN networks for square images of any power-of-two size from 32 to 256.

Generator: transposed convolutions, batch norm, ReLU (Radford, Metz & Chintala 2016, arXiv 1511.06434).
Discriminator: strided convolutions and LeakyReLU under the two heads of :mod:`securegan.models.networks.discriminator`.
Images are ``(N, C, S, S)`` in ``[0, 1]``; the networks convert to ``[-1, 1]`` inside.
"""

import torch
from torch import Tensor, nn

from securegan.models.networks.discriminator import BASE, TwoHeadDiscriminator, level_widths, normaliser

CLASS_SCALE = 0.1  # of a class's embedding beside the code: where both weigh the same, the code is soon ignored


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


class DCGANDiscriminator(TwoHeadDiscriminator):
    """Strided convolutions and LeakyReLU; the heads read the flattened innermost map."""

    def __init__(
        self,
        num_classes: int,
        channels: int,
        size: int,
        width: int,
        class_width: int,
        shared_blocks: int,
        spectral: bool = True,
        projection: bool = False,
    ) -> None:
        normalise = normaliser(spectral)

        def block(before: int, after: int, side: int) -> nn.Module:
            return nn.Sequential(normalise(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2))

        super().__init__(
            block,
            nn.Flatten(),
            BASE * BASE,
            normalise,
            num_classes=num_classes,
            channels=channels,
            size=size,
            width=width,
            class_width=class_width,
            shared_blocks=shared_blocks,
            projection=projection,
        )


def _dcgan_init(module: nn.Module) -> None:
    """Weights from N(0, 0.02), batch-norm scales from N(1, 0.02): section 4 of the DCGAN paper."""
    if isinstance(module, nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
