"""Generated images by number: sample i of a purpose is the same whatever the chunk, the rank or the world size."""

from collections.abc import Iterator

import torch
from torch import Tensor

from securegan.attacks.shield import shielded
from securegan.attacks.spaces import LatentSpace
from securegan.metrics.distributed import shard
from securegan.models.base import GenerativeModule

CHUNK = 100


def latent_chunks(
    module: GenerativeModule, total: int, purpose: str, *, in_shell: bool = False
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """This rank's ``(keys (n,), z (n, latent_dim), y (n,) or None)`` of ``total`` evaluation latents.

    With ``in_shell`` the few codes outside the prior's 95 % shell are moved to its border, where latent attacks start.
    """
    for number in shard(-(-total // CHUNK)):
        n = min(CHUNK, total - number * CHUNK)
        z, y = module.latents(n, "evaluation", purpose, number)
        if in_shell:
            z = LatentSpace(module.latent_dim).into_shell(z)
        yield torch.arange(n) + number * CHUNK, z, y


def generated(module: GenerativeModule, z: Tensor, y: Tensor | None) -> Tensor:
    """Images of latents without gradients, in float32, with the module left as it was."""
    with shielded(module.victims()), torch.no_grad():
        return module.generate(z, y)


def image_chunks(module: GenerativeModule, total: int, purpose: str) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """This rank's ``(keys (n,), images (n, C, H, W), y (n,) or None)`` of ``total`` generated images."""
    for keys, z, y in latent_chunks(module, total, purpose):
        yield keys, generated(module, z, y), y


def authenticity(module: GenerativeModule, images: Tensor) -> Tensor:
    """``(N,)`` authenticity logits of images, likewise."""
    with shielded(module.victims()), torch.no_grad():
        return module.authenticity_logits(images)
