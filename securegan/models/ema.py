"""Exponential moving average of a generator's weights, with a half-life counted in images.

Only the generator is averaged (Lightning's callback averages the whole module and counts optimiser steps), its
batch-norm statistics with it: those of the live weights fit the averaged ones badly, and with small batches are noisy.
"""

import copy

import torch
from torch import Tensor, nn


class GeneratorEMA(nn.Module):
    """Holds the averaged copy ``self.averaged``; ``update`` moves it towards the live generator."""

    def __init__(self, generator: nn.Module, half_life: float, ramp: float | None = 0.05) -> None:
        """Args: half_life: images after which an old weight counts half; ramp: the half-life never exceeds this share
        of the images seen so far, so that early averages forget the initialisation (Karras et al. 2020,
        arXiv 2006.06676); None for a constant one.
        """
        super().__init__()
        self.half_life, self.ramp = half_life, ramp
        self.averaged = copy.deepcopy(generator).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "GeneratorEMA":
        """The average is for inference alone: it stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def update(self, generator: nn.Module, images: int, images_seen: int) -> None:
        """Move after an update that saw ``images`` images, ``images_seen`` in all."""
        half_life = self.half_life if self.ramp is None else min(self.half_life, self.ramp * images_seen)
        decay = 0.5 ** (images / max(half_life, 1e-8))
        averaged: list[Tensor] = [*self.averaged.parameters(), *self.averaged.buffers()]
        live: list[Tensor] = [*generator.parameters(), *generator.buffers()]
        pairs = list(zip(averaged, live, strict=True))
        blended = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([target for target, _ in blended], [source for _, source in blended], 1.0 - decay)
        for target, source in pairs:
            if not target.is_floating_point():
                target.copy_(source)
