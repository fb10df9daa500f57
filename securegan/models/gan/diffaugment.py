"""Differentiable augmentation of what the discriminator sees, real and generated, in both players' updates.

DiffAugment (Zhao et al. 2020, arXiv 2006.10738) and the adaptive probability of Karras et al. 2020, arXiv 2006.06676,
section 3. The parameters are functions of :mod:`securegan.randomness`, one set an image. Written here because kornia's
augmentations draw from torch's global generator and shift by interpolation, which alters pixels.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from securegan.randomness import generator

Transform = Literal["color", "translation", "cutout"]
GREY = 0.5  # what the networks read as 0: fills what a shift or a cut leaves empty
SHIFT = 1 / 8  # of the side, at most
CUT = 1 / 2  # side of the cut square, of the image's
WINDOW = 256  # images between two adjustments of the probability: four batches of 64, as published


def color(images: Tensor, draws: Tensor) -> Tensor:
    """Brightness up to a quarter of the range either way, saturation by up to 2, contrast by 0.5 to 1.5.

    Nothing is clipped, so that gradients flow; values may leave ``[0, 1]``.
    """
    brightness, saturation, contrast = draws[:, :3, None, None, None].unbind(1)
    images = images + (brightness - 0.5) / 2
    grey = images.mean(1, keepdim=True)
    images = torch.lerp(grey.expand_as(images), images, 2 * saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(images), images, contrast + 0.5)


def translation(images: Tensor, draws: Tensor) -> Tensor:
    """Shifts by whole pixels, up to an eighth of the side along both axes."""
    for axis, draw in ((2, draws[:, 0]), (3, draws[:, 1])):
        side = images.shape[axis]
        reach = int(side * SHIFT + 0.5)
        offset = (draw * (2 * reach + 1)).long() - reach
        source = torch.arange(side, device=images.device) - offset[:, None]
        inside = (source >= 0) & (source < side)
        shape = [len(images), 1, 1, 1]
        shape[axis] = side
        index = source.clamp(0, side - 1).view(shape).expand_as(images)
        images = images.gather(axis, index).where(inside.view(shape), GREY)
    return images


def cutout(images: Tensor, draws: Tensor) -> Tensor:
    """A square of half the side, its centre anywhere in the image, turned grey."""
    inside = []
    for axis, draw in ((2, draws[:, 0]), (3, draws[:, 1])):
        side = images.shape[axis]
        length = int(side * CUT + 0.5)
        start = (draw * side).long() - length // 2
        position = torch.arange(side, device=images.device)
        inside.append((position >= start[:, None]) & (position < start[:, None] + length))
    return images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], GREY)


TRANSFORMS: dict[Transform, Callable[[Tensor, Tensor], Tensor]] = {
    "color": color,
    "translation": translation,
    "cutout": cutout,
}
"""In the order in which they act; ``draws (N, 3)`` are uniform in ``[0, 1)``."""


def diffaugment(
    images: Tensor, transforms: Sequence[Transform], probability: float | Tensor, *key: int | str
) -> Tensor:
    """``images (N, C, H, W)``, each under each transform with ``probability``, as ``key`` determines."""
    if not transforms:
        return images
    draws = torch.rand(len(TRANSFORMS), len(images), 4, generator=generator(*key)).to(images.device)
    for (name, transform), draw in zip(TRANSFORMS.items(), draws, strict=True):
        if name in transforms:
            chosen = (draw[:, 3] < probability)[:, None, None, None]
            images = torch.where(chosen, transform(images, draw), images)
    return images


class AdaptiveProbability(nn.Module):
    """Rises while the discriminator is surer of its real images than ``target``, and falls while it is less sure.

    Sureness is ``r_t = E[sign D(real)]`` over a window of images of all ranks. The state is in buffers: it survives a
    resume, and is the same on all ranks.
    """

    probability: Tensor
    tally: Tensor

    def __init__(self, target: float, images: int) -> None:
        """Args: target: of r_t; images: in which the probability goes from 0 to 1 at most."""
        super().__init__()
        self.target, self.images = target, images
        self.register_buffer("probability", torch.zeros(()))
        self.register_buffer("tally", torch.zeros(2))  # sum and number of the signs since the last adjustment

    @torch.no_grad()
    def observe(self, margins: Tensor) -> None:
        """Take note of ``margins (N,)``, positive where a real image seemed real; all ranks take part."""
        found = torch.stack([margins.sign().sum(), margins.new_tensor(float(len(margins)))]).float()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(found)
        self.tally += found
        full = self.tally[1] >= WINDOW
        change = (self.tally[0] / self.tally[1] - self.target).sign() * self.tally[1] / self.images
        self.probability.copy_((self.probability + change * full).clamp(0, 1))
        self.tally *= ~full
