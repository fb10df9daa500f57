"""Augmentation of training batches: flips, rotations and scalings drawn as a function of the images seen.

The parameters come from :mod:`securegan.randomness` and the pixels from kornia's warps, so torch's global generator is
never touched and a resumed run augments as the first one did.
"""

from dataclasses import dataclass

import torch
from kornia.geometry.transform import get_rotation_matrix2d, warp_affine
from torch import Tensor

from securegan.randomness import generator


@dataclass(frozen=True)
class Augmentation:
    """Random horizontal flip (half of the images), rotation and scaling, each image on its own."""

    flip: bool = False
    rotation: float = 0.0  # degrees, drawn from [-rotation, rotation]
    scaling: float = 0.0  # factor, drawn from [1 - scaling, 1 + scaling]

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return self.flip or self.rotation > 0 or self.scaling > 0

    def __call__(self, images: Tensor, *key: int | str) -> Tensor:
        """``images (N, C, H, W)`` in ``[0, 1]`` changed as ``key`` determines, on their own device.

        Warps are bilinear; what comes in from outside the image repeats its border.
        """
        if not self.active or not len(images):
            return images
        draws = torch.rand(len(images), 3, generator=generator(*key)).to(images.device)
        if self.flip:
            images = torch.where(draws[:, 0].lt(0.5)[:, None, None, None], images.flip(-1), images)
        if self.rotation > 0 or self.scaling > 0:
            height, width = images.shape[-2:]
            centre = images.new_tensor([(width - 1) / 2, (height - 1) / 2]).expand(len(images), 2)
            angle = (2 * draws[:, 1] - 1) * self.rotation
            factor = 1 + (2 * draws[:, 2] - 1) * self.scaling
            matrix = get_rotation_matrix2d(centre, angle, factor[:, None].expand(-1, 2))
            images = warp_affine(images, matrix, (height, width), mode="bilinear", padding_mode="border")
        return images.clamp(0, 1)
