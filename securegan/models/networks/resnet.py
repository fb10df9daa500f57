"""Residual networks for square images of any power-of-two size from 32 to 256, after SNGAN.

Blocks: Gulrajani et al. 2017, arXiv 1704.00028, appendix C, and Miyato et al. 2018, arXiv 1802.05957, appendix B.4.
Class-conditional batch norm: Dumoulin et al. 2017, arXiv 1610.07629; de Vries et al. 2017, arXiv 1707.00683.
Self-attention: Zhang et al. 2019, arXiv 1805.08318, eq. 1-3, with the pooled keys of its authors' code.

A 3x3 convolution after nearest up-sampling by two equals a transposed 4x4 convolution of stride 2 whose kernel sums
neighbouring taps, and one before mean pooling the plain 4x4 convolution of a quarter of that kernel: the blocks compute
those, at less than half the cost.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from securegan.errors import ConfigError
from securegan.models.networks.discriminator import BASE, Normalise, TwoHeadDiscriminator, level_widths, normaliser


class UpConv2d(nn.Conv2d):
    """Nearest up-sampling by two, then a 3x3 convolution: ``(N, C, H, W)`` to ``(N, D, 2H, 2W)``."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kernel = _spread(self.weight).transpose(0, 1).flip(2, 3)
        return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)


class DownConv2d(nn.Conv2d):
    """A 3x3 convolution, then mean pooling by two: ``(N, C, H, W)`` to ``(N, D, H / 2, W / 2)``."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, _spread(self.weight) / 4, self.bias, stride=2, padding=1)


def _spread(weight: Tensor) -> Tensor:
    """The ``(.., .., 4, 4)`` kernel that adds up what the ``(.., .., 3, 3)`` one sees from four neighbouring pixels."""
    padded = F.pad(weight, (1, 1, 1, 1))
    rows = padded[:, :, 1:] + padded[:, :, :-1]
    return rows[:, :, :, 1:] + rows[:, :, :, :-1]


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose gain and shift are the class's own; plain batch norm where ``num_classes`` is 0."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=not num_classes)
        self.offsets = nn.Embedding(num_classes, 2 * channels) if num_classes else None
        if self.offsets is not None:
            nn.init.zeros_(self.offsets.weight)  # all classes start alike

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """``x (N, C, H, W)`` normalised; ``y (N,)`` where the data is labelled."""
        if self.offsets is None:
            return self.norm(x)
        gain, shift = self.offsets(y)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, self.norm(x), 1 + gain)


class SelfAttention(nn.Module):
    """``x + gamma * o(attention(x))`` over all positions of ``x (N, C, H, W)``; ``gamma`` starts at 0."""

    def __init__(self, channels: int, normalise: Normalise) -> None:
        super().__init__()
        inner, values = max(1, channels // 8), max(1, channels // 2)
        self.query = normalise(nn.Conv2d(channels, inner, 1, bias=False))
        self.key = normalise(nn.Conv2d(channels, inner, 1, bias=False))
        self.value = normalise(nn.Conv2d(channels, values, 1, bias=False))
        self.out = normalise(nn.Conv2d(values, channels, 1, bias=False))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2).transpose(1, 2)
        key = F.max_pool2d(self.key(x), 2).flatten(2).transpose(1, 2)
        value = F.max_pool2d(self.value(x), 2).flatten(2).transpose(1, 2)
        read = torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value
        return x + self.gamma * self.out(read.transpose(1, 2).unflatten(2, x.shape[2:]))


def check_attention(side: int | None, network: str, size: int) -> None:
    """Raises ConfigError for a ``side`` of attending feature maps that networks of images of ``size`` do not have."""
    if side and (network == "dcgan" or side > size // 2):
        raise ConfigError(
            f"model.attention={side} is not allowed: expected null, or model.network=resnet and at most half of "
            f"data.size={size}."
        )


class UpBlock(nn.Module):
    """A generator's residual block: batch norm, ReLU, twice the side, then the same without."""

    def __init__(self, before: int, after: int, num_classes: int) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm2d(before, num_classes)
        self.conv1 = UpConv2d(before, after)
        self.norm2 = ConditionalBatchNorm2d(after, num_classes)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        hidden = self.conv1(F.relu(self.norm1(x, y)))
        hidden = self.conv2(F.relu(self.norm2(hidden, y)))
        return hidden + F.interpolate(self.shortcut(x), scale_factor=2, mode="nearest")


class DownBlock(nn.Module):
    """A discriminator's residual block: ReLU (but on an image), convolution, ReLU, convolution to half the side."""

    def __init__(self, before: int, after: int, normalise: Normalise, *, of_image: bool) -> None:
        super().__init__()
        self.of_image = of_image
        inner = after if of_image else before
        self.conv1 = normalise(nn.Conv2d(before, inner, 3, padding=1))
        self.conv2 = normalise(DownConv2d(inner, after))
        self.shortcut = normalise(nn.Conv2d(before, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv2(F.relu(self.conv1(x if self.of_image else F.relu(x))))
        return hidden + self.shortcut(F.avg_pool2d(x, 2))


class SumOfActivations(nn.Module):
    """ReLU, then the sum over positions: ``(N, C, H, W)`` to ``(N, C)``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).sum((2, 3))


class ResNetGenerator(nn.Module):
    """``G(z, y)``: latent codes ``(N, latent_dim)`` and classes ``(N,)`` to images ``(N, C, S, S)`` in ``[0, 1]``."""

    def __init__(
        self, latent_dim: int, num_classes: int, channels: int, size: int, width: int, attention: int | None = None
    ) -> None:
        """Args: attention: side of the feature map that attends to itself."""
        super().__init__()
        self.latent_dim, self.num_classes = latent_dim, num_classes
        widths = level_widths(size, width)[::-1]
        self.start = nn.Linear(latent_dim, widths[0] * BASE * BASE)
        before = [widths[0], *widths[:-1]]
        self.blocks = nn.ModuleList(UpBlock(b, a, num_classes) for b, a in zip(before, widths, strict=True))
        sides = [BASE * 2 ** (level + 1) for level in range(len(widths))]
        self.attending = sides.index(attention) if attention else None
        self.attention = (
            SelfAttention(widths[self.attending], normaliser(False)) if self.attending is not None else None
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.image = nn.Conv2d(widths[-1], channels, 3, padding=1)
        self.apply(_xavier_init)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Images in ``[0, 1]`` for ``z`` and, where the data is labelled, classes ``y``."""
        if self.num_classes and y is None:
            raise ValueError("a class-conditional generator needs classes y")
        hidden = self.start(z).unflatten(1, (-1, BASE, BASE))
        for level, block in enumerate(self.blocks):
            hidden = block(hidden, y)
            if self.attention is not None and level == self.attending:
                hidden = self.attention(hidden)
        return torch.tanh(self.image(F.relu(self.norm(hidden)))).add(1).mul(0.5)


class ResNetDiscriminator(TwoHeadDiscriminator):
    """Residual blocks down to 4x4; the heads read the sum over positions."""

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
        attention: int | None = None,
    ) -> None:
        """Args: attention: side of the feature map that attends to itself, in either head's blocks."""
        spectrally = normaliser(spectral)

        def normalise(layer: nn.Module) -> nn.Module:
            _xavier_init(layer)  # the norm hides the weights
            return spectrally(layer)

        def block(before: int, after: int, side: int) -> nn.Module:
            made = DownBlock(before, after, normalise, of_image=side == size // 2)
            return nn.Sequential(made, SelfAttention(after, normalise)) if side == attention else made

        super().__init__(
            block,
            SumOfActivations(),
            1,
            normalise,
            num_classes=num_classes,
            channels=channels,
            size=size,
            width=width,
            class_width=class_width,
            shared_blocks=shared_blocks,
            projection=projection,
        )


def _xavier_init(module: nn.Module) -> None:
    """Glorot's uniform weights, by the square root of two in 3x3 convolutions, which a ReLU halves; biases 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        wide = isinstance(module, nn.Conv2d) and module.kernel_size[0] == 3
        nn.init.xavier_uniform_(module.weight, 2**0.5 if wide else 1.0)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
