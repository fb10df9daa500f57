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


def reconstructed(module: GenerativeModule, images: Tensor, labels: Tensor) -> Tensor:
    """What an autoencoder makes of ``images`` of classes ``labels`` (-1 where unlabelled), likewise."""
    with shielded(module.victims()), torch.no_grad():
        return module.reconstruct(images, None if (labels < 0).any() else labels)


def image_chunks(module: GenerativeModule, total: int, purpose: str) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """This rank's ``(keys (n,), images (n, C, H, W), y (n,) or None)`` of ``total`` generated images."""
    for keys, z, y in latent_chunks(module, total, purpose):
        yield keys, generated(module, z, y), y


def great_circle(first: Tensor, second: Tensor, steps: int) -> Tensor:
    """``(N, steps, dim)`` codes from ``first (N, dim)`` to ``second``, both included, along the sphere between them.

    A straight line would pass through codes nearer to the origin than the prior draws (White 2016, arXiv 1609.04468).
    """
    lengths = torch.stack([first.norm(dim=1), second.norm(dim=1)])[..., None]
    a, b = first / lengths[0], second / lengths[1]
    angle = (a * b).sum(1, keepdim=True).clamp(-1, 1).arccos().clamp(1e-4, torch.pi - 1e-4)[:, None]
    share = torch.linspace(0, 1, steps, device=first.device)[None, :, None]
    direction = (((1 - share) * angle).sin() * a[:, None] + (share * angle).sin() * b[:, None]) / angle.sin()
    return direction * torch.lerp(lengths[0][:, None], lengths[1][:, None], share)


def authenticity(module: GenerativeModule, images: Tensor) -> Tensor:
    """``(N,)`` authenticity logits of images, likewise."""
    with shielded(module.victims()), torch.no_grad():
        return module.authenticity_logits(images)
