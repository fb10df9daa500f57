"""Penalties on the slope of the discriminator's authenticity logit with respect to the image.

R1 and R2: ``gamma / 2 * E |grad D(x)|^2`` on real and on generated images (Mescheder et al. 2018, arXiv 1801.04406,
eq. 9-10). The gradient penalty of WGAN-GP: ``lambda * E (|grad D(x)| - 1)^2`` between the two (Gulrajani et al. 2017,
arXiv 1704.00028, eq. 3). Lazily, every so many steps with the weight times as much (Karras et al. 2020,
arXiv 1912.04958, section 3.1). Slopes are per unit of images in ``[-1, 1]``, as in those papers, so that their weights
can be taken over.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from securegan.models.ports import Inputs
from securegan.randomness import generator

RANGE = 2.0  # of the images in those papers; ours have 1
TINY = 1e-12  # below a square root, whose own slope at 0 is infinite

Authenticity = Callable[[Tensor, Tensor | None], Tensor]
"""Logits ``(N,)`` of images ``(N, C, H, W)`` with their labels ``(N,)`` where the data is labelled."""


def squared_slopes(authenticity: Authenticity, images: Tensor, labels: Tensor | None) -> Tensor:
    """``(N,)`` squared L2 norms of each image's own gradient, differentiable, in float32 without autocast."""
    x = images.detach().float().requires_grad_(True)
    with torch.autocast(x.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(authenticity(x, labels).sum(), x, create_graph=True)
        return (gradient / RANGE).flatten(1).square().sum(1)


def between(real: Tensor, fake: Tensor, *key: int | str) -> Tensor:
    """``real`` images each moved towards a generated one, read in turn, by a share drawn for ``key``."""
    shares = torch.rand(len(real), 1, 1, 1, generator=generator(*key)).to(real.device)
    partners = fake[torch.arange(len(real), device=fake.device) % len(fake)]
    return torch.lerp(real, partners, shares)


@contextmanager
def held(discriminator: nn.Module) -> Iterator[None]:
    """Evaluation mode: spectral norm keeps the estimates of the step's own forward instead of iterating once more."""
    training = discriminator.training
    discriminator.eval()
    try:
        yield
    finally:
        discriminator.train(training)


@dataclass(frozen=True)
class Penalties:
    """Weights as published; 0 is off."""

    r1: float
    r2: float
    gradient_penalty: float
    every: int

    def due(self, step: int) -> bool:
        """Whether any is added in the discriminator's 0-based update ``step``."""
        return step % self.every == 0 and max(self.r1, self.r2, self.gradient_penalty) > 0

    def terms(
        self, authenticity: Authenticity, real: Inputs, fake: Inputs, *key: int | str
    ) -> list[tuple[str, Tensor]]:
        """The penalties in effect by name, weighted for the interval."""
        made = []
        for name, gamma, part in (("r1", self.r1, real), ("r2", self.r2, fake)):
            if gamma:
                slopes = squared_slopes(authenticity, part.images, part.labels)
                made.append((name, self.every * gamma / 2 * slopes.mean()))
        if self.gradient_penalty:
            images = between(real.images, fake.images, *key)
            lengths = (squared_slopes(authenticity, images, real.labels) + TINY).sqrt()
            made.append(("gradient_penalty", self.every * self.gradient_penalty * (lengths - 1).square().mean()))
        return made
