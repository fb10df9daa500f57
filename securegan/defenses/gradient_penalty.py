"""Input-gradient regularisation of the class head (Ross & Doshi-Velez 2018, arXiv 1711.09404, eq. 8).

Adds ``weight * E ||d CE(x, y) / dx||^2`` on real images to the discriminator's loss. Known to flatten the loss around
the data; on its own it is a weak defence against iterative attacks, and is measured like any other.
"""

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from securegan.configuration.types import PositiveFloat
from securegan.defenses.base import Defense
from securegan.errors import ConfigError
from securegan.models.base import GenerativeModule
from securegan.models.ports import StepContext


class GradientPenalty(Defense):
    """A ``loss`` hook on the discriminator; for unlabelled data it acts on the authenticity logit instead."""

    name = "gradient_penalty"

    def __init__(self, default_eps: float, seed: int, *, weight: PositiveFloat = 0.1) -> None:
        """Args: weight: of the squared gradient norm, in the loss's unit per squared pixel unit."""
        super().__init__()
        self.weight = weight

    @property
    def facts(self) -> dict[str, object]:
        return {"weight": self.weight}

    def attach(self, module: GenerativeModule, trainer: pl.Trainer) -> None:
        if "discriminator" not in module.ports:
            raise ConfigError("defense=gradient_penalty is not possible with this model: it has no discriminator.")
        module.ports["discriminator"].loss.append(self._penalty)

    def _penalty(self, context: StepContext) -> Tensor:
        real = next(part for part in context.inputs if part.real)
        x = real.images.detach().clone().requires_grad_(True)
        output = context.module.discriminate(x)
        if output.class_logits is not None and real.labels is not None:
            loss = F.cross_entropy(output.class_logits, real.labels, reduction="sum")
        else:
            loss = F.softplus(-output.authenticity).sum()
        (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        penalty = self.weight * gradient.flatten(1).square().sum(1).mean()
        context.logged["gradient_penalty"] = penalty.detach()
        return penalty
