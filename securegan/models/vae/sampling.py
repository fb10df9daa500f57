"""Fit the mixture of a VAE to the codes of train images, on all ranks alike."""

import torch
import torch.distributed as dist

from securegan.data.module import ImageDataModule
from securegan.metrics.distributed import gather_rows
from securegan.models.networks.autoencoder import Encoder, codes_of
from securegan.models.vae.mixture import LatentMixture

FIT_IMAGES = 10_000  # train images at most


def fit_mixture(
    mixture: LatentMixture, encoder: Encoder, data: ImageDataModule, seed: int, device: torch.device
) -> None:
    """Rank 0 fits, all get the result; ``encoder`` must be in evaluation mode."""
    codes, labels = [torch.zeros(0, mixture.latent_dim)], [torch.zeros(0, dtype=torch.int64)]
    keys = [torch.zeros(0, dtype=torch.int64)]
    for _, batch in data.chunks("train", FIT_IMAGES):
        codes.append(codes_of(encoder, batch.images.to(device)).float().cpu())
        labels.append(batch.labels)
        keys.append(batch.index)
    order = torch.cat(keys)
    gathered, classes = gather_rows(torch.cat(codes), order), gather_rows(torch.cat(labels), order)
    spread = dist.is_available() and dist.is_initialized()
    if not spread or dist.get_rank() == 0:
        mixture.fit(gathered, classes, seed)
    if spread:
        for buffer in mixture.buffers():
            dist.broadcast(buffer, src=0)
