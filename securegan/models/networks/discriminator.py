"""The discriminator of two heads (real or generated, and which class) over blocks that a network family gives.

The class head is the auxiliary one of Odena et al. 2017, arXiv 1610.09585; the projection of the label onto the
features is that of Miyato & Koyama 2018, arXiv 1802.05637; spectral norm that of Miyato et al. 2018, arXiv 1802.05957.
Images are ``(N, C, S, S)`` in ``[0, 1]``, converted to ``[-1, 1]`` inside.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

SIZES = (32, 64, 128, 256)
BASE = 4  # side of the innermost feature map
MAX_MULTIPLE = 8  # the widest layer has this many times `width` channels

Normalise = Callable[[nn.Module], nn.Module]
MakeBlock = Callable[[int, int, int], nn.Module]
"""``make(before, after, side)``: a block from ``before`` to ``after`` channels, to half the side, which is ``side``."""


class DiscriminatorOutput(NamedTuple):
    """What one forward of a discriminator gives."""

    authenticity: Tensor  # (N,) logit, higher is more real
    class_logits: Tensor | None  # (N, K), None for unlabelled data
    features: tuple[Tensor, ...]  # intermediate feature maps, (N, C_l, H_l, W_l), inwards; the class head's own last


def level_widths(size: int, width: int) -> list[int]:
    """Channels of the feature maps from the image inwards, one for each halving down to 4x4."""
    levels = (size // BASE).bit_length() - 1
    return [width * min(2**level, MAX_MULTIPLE) for level in range(levels)]


def normaliser(spectral: bool) -> Normalise:
    """Spectral norm of a layer, or the layer as it is."""
    return spectral_norm if spectral else _unchanged


def _unchanged(layer: nn.Module) -> nn.Module:
    return layer


class TwoHeadDiscriminator(nn.Module):
    """Two heads: real or generated, and (for labelled data) which class.

    The first ``shared_blocks`` blocks serve both heads, the others come in one copy each: robust classification and the
    game against the generator pull a shared trunk apart, and both suffer.

    With ``projection`` the authenticity logit is ``D(x, y)``, that of the image together with its label. Without a
    label it is ``D(x) = -log E_y exp(-D(x, y))`` over the class head's reading of ``x``. Where ``D(x, y)`` is the
    logarithm of ``p(x, y) / q(x, y)``, real against generated, and the class head, which learns from real images alone,
    gives ``p(y | x)``, that is the logarithm of ``p(x) / q(x)`` itself: ``q(x) / p(x) = sum_y p(y | x) q(x, y) / p(x,
    y)``. (A ``logsumexp`` of the sum of both would need ``q(y | x)``, which no head learns.)
    """

    def __init__(
        self,
        make_block: MakeBlock,
        read: nn.Module,
        positions: int,
        normalise: Normalise,
        *,
        num_classes: int,
        channels: int,
        size: int,
        width: int,
        class_width: int,
        shared_blocks: int,
        projection: bool,
    ) -> None:
        """Args:
        make_block: of the family.
        read: from the last feature map ``(N, C, 4, 4)`` to the heads' inputs ``(N, C * positions)``.
        positions: inputs of the heads a channel.
        normalise: of the authenticity head.
        width: channels of the outermost feature map, doubled inwards up to eight times.
        class_width: of the blocks that serve the class head alone, likewise.
        projection: whether the authenticity head reads labels, where the data has them.
        """
        super().__init__()
        self.num_classes, self.shared_blocks = num_classes, shared_blocks
        sides = [size >> level for level in range(1, (size // BASE).bit_length())]
        widths = [channels, *level_widths(size, width)]
        self.blocks = _chain(make_block, widths, sides)
        self.authenticity = normalise(nn.Linear(widths[-1] * positions, 1))
        own = [*widths[: shared_blocks + 1], *level_widths(size, class_width)[shared_blocks:]]
        self.class_blocks = _chain(make_block, own[shared_blocks:] if num_classes else (), sides[shared_blocks:])
        self.classes = nn.Linear(own[-1] * positions, num_classes) if num_classes else None
        self.read = read
        self.projection: nn.Module | None = (
            _projection(num_classes, widths[-1] * positions, normalise) if projection else None
        )

    def class_parameters(self) -> list[nn.Parameter]:
        """The parameters that serve the class head, alone or beside the other; none for unlabelled data."""
        if self.classes is None:
            return []
        shared = self.blocks[: self.shared_blocks].parameters()
        return [*shared, *self.class_blocks.parameters(), *self.classes.parameters()]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """Both heads and the feature maps of ``images``; ``labels (N,)`` matter to a projection alone."""
        features = _feature_maps(self.blocks, images * 2 - 1)
        if self.classes is None:
            return DiscriminatorOutput(self._real(features[-1], None, None), None, tuple(features[1:]))
        own = _feature_maps(self.class_blocks, features[self.shared_blocks])
        class_logits = self.classes(self.read(own[-1]))
        return DiscriminatorOutput(
            self._real(features[-1], labels, class_logits), class_logits, (*features[1:], *own[1:])
        )

    def authenticity_logits(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """``(N,)``: the one head of :meth:`forward`, without the other's blocks where they are not needed."""
        if self.projection is not None and labels is None:
            return self(images).authenticity
        return self._real(_feature_maps(self.blocks, images * 2 - 1)[-1], labels, None)

    def class_logits(self, images: Tensor) -> Tensor:
        """``(N, K)``, likewise. Raises ValueError for unlabelled data."""
        if self.classes is None:
            raise ValueError("a discriminator of unlabelled data has no class head")
        hidden = _feature_maps(self.blocks[: self.shared_blocks], images * 2 - 1)[-1]
        return self.classes(self.read(_feature_maps(self.class_blocks, hidden)[-1]))

    def _real(self, hidden: Tensor, labels: Tensor | None, class_logits: Tensor | None) -> Tensor:
        inputs = self.read(hidden)
        level = self.authenticity(inputs).squeeze(1)
        if self.projection is None:
            return level
        if labels is not None:
            return level + (self.projection(labels) * inputs).sum(1)
        assert class_logits is not None
        joint = level[:, None] + inputs @ cast(Tensor, self.projection.weight).T
        return -torch.logsumexp(F.log_softmax(class_logits, dim=1) - joint, dim=1)


def _projection(num_classes: int, inputs: int, normalise: Normalise) -> nn.Module | None:
    if not num_classes:
        return None
    embedding = nn.Embedding(num_classes, inputs)
    nn.init.xavier_uniform_(embedding.weight)
    return normalise(embedding)


def _chain(make_block: MakeBlock, widths: Sequence[int], sides: Sequence[int]) -> nn.ModuleList:
    pairs = pairwise(widths)
    return nn.ModuleList(make_block(before, after, side) for (before, after), side in zip(pairs, sides, strict=False))


def _feature_maps(blocks: Iterable[nn.Module], hidden: Tensor) -> list[Tensor]:
    """``hidden`` and the output of each of ``blocks`` in turn."""
    maps = [hidden]
    for block in blocks:
        maps.append(block(maps[-1]))
    return maps
