"""Adversarial training of a discriminator's two heads and of an autoencoder, with a warm-up and a stepwise ramp.

The inner maximisation of Madry et al. 2018 (arXiv 1706.06083, eq. 2.1) on both heads at once, as Rob-GAN does for real
images (Liu & Hsieh 2019, arXiv 1807.10454); here perturbed real and perturbed generated images both enter the
discriminator's update beside the clean ones. The generator may in turn be asked to stay under a detector's threshold.
An autoencoder learns to give back the clean image from a perturbed one.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from securegan.attacks.engine import step_size
from securegan.attacks.shield import shielded
from securegan.attacks.spaces import PixelSpace, steepest
from securegan.attacks.threat import Norm
from securegan.configuration.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Radius
from securegan.defenses.base import Defense
from securegan.defenses.reconstruction_twins import worst_inputs
from securegan.detectors.base import Detector
from securegan.errors import ConfigError
from securegan.models.base import GenerativeModule, callbacks_of
from securegan.models.gan.losses import discriminator_loss
from securegan.models.ports import Inputs, StepContext
from securegan.randomness import generator


class AdversarialTraining(Defense):
    """Perturbed twins of real and generated images in the discriminator's updates, of real ones in an autoencoder's."""

    name = "adversarial_training"

    def __init__(
        self,
        default_eps: float,
        seed: int,
        *,
        eps: Radius | None = None,
        eps_factor: PositiveFloat = 1.5,
        norm: Norm = "linf",
        steps: PositiveInt = 2,
        warmup_epochs: NonNegativeInt = 1,
        ramp_epochs: NonNegativeInt = 3,
        real_share: Fraction = 1.0,
        fake_share: Fraction = 0.25,
        class_weight: NonNegativeFloat = 1.0,
        authenticity_weight: NonNegativeFloat = 0.05,
        reconstruction_weight: NonNegativeFloat = 1.0,
        detector_weight: NonNegativeFloat = 0.02,
    ) -> None:
        """Args:
        default_eps, seed: the data set's radius, taken where ``eps`` is not given; the run's seed.
        eps_factor: final radius of training over the data set's; a wider one gives a margin at the radius attacked.
        warmup_epochs: epochs on clean data.
        ramp_epochs: epochs in which radius and shares grow by equal steps.
        real_share, fake_share: final shares of a batch that get a perturbed twin.
        class_weight, authenticity_weight: of the twins in the two heads' losses, and of the heads in the inner
            maximisation. The generator learns from the authenticity head: a heavier weight there costs it quality.
        reconstruction_weight: of the twins in an autoencoder's loss; 0 leaves it alone.
        detector_weight: of the generator's penalty for exceeding the detector's threshold; 0 is off.
        """
        super().__init__()
        if norm == "l2" and eps is None:
            raise ConfigError(
                "defense.adversarial_training.norm=l2 needs defense.adversarial_training.eps: the data set's radius is "
                "one of L-inf."
            )
        self.eps = eps_factor * default_eps if eps is None else float(eps)
        self.seed, self.norm, self.steps = seed, norm, steps
        self.warmup_epochs, self.ramp_epochs = warmup_epochs, ramp_epochs
        self.shares = (float(real_share), float(fake_share))
        self.class_weight, self.authenticity_weight = class_weight, authenticity_weight
        self.reconstruction_weight, self.detector_weight = reconstruction_weight, detector_weight
        self._strength = 0.0
        self._detectors: Sequence[Detector] = ()

    def strength(self, epoch: int) -> float:
        """Share of the final radius and shares in 0-based ``epoch``: 0 in the warm-up, then equal steps up to 1."""
        if epoch < self.warmup_epochs:
            return 0.0
        return min(1.0, (epoch - self.warmup_epochs + 1) / (self.ramp_epochs + 1))

    @property
    def facts(self) -> dict[str, object]:
        return {"norm": self.norm, "eps": self.eps, "steps": self.steps}

    def full_strength(self, epoch: int) -> bool:
        return self.strength(epoch) >= 1.0

    def attach(self, module: GenerativeModule, trainer: pl.Trainer) -> None:
        if "discriminator" in module.ports:
            module.ports["discriminator"].batch.append(self._add_twins)
        if "autoencoder" in module.ports and self.reconstruction_weight:
            module.ports["autoencoder"].batch.append(self._add_reconstruction_twins)
        self._detectors = [callback for callback in callbacks_of(trainer) if isinstance(callback, Detector)]
        if self.detector_weight and self._detectors and "generator" in module.ports:
            module.ports["generator"].loss.append(self._stay_under_threshold)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._strength = self.strength(trainer.current_epoch)

    def _add_twins(self, context: StepContext) -> None:
        """The ``batch`` hook: perturbed twins of a share of each origin's images; their radius is logged."""
        context.logged["twin_radius"] = torch.tensor(self.eps * self._strength)
        if not self._strength:
            return
        sources = []
        for part in context.inputs:
            n = round(self._strength * self.shares[0 if part.real else 1] * len(part.images))
            if n:
                labels = None if part.labels is None else part.labels[:n]
                weight = n / len(part.images)
                sources.append(
                    Inputs(
                        part.images[:n],
                        labels,
                        part.real,
                        self.authenticity_weight * weight,
                        self.class_weight * weight,
                    )
                )
        if not sources:
            return
        moved = self._perturb(context, sources).split([len(part.images) for part in sources])
        for part, images in zip(sources, moved, strict=True):
            context.inputs.append(replace(part, images=images))

    def _add_reconstruction_twins(self, context: StepContext) -> None:
        """The autoencoder's ``batch`` hook: perturbed twins of a share of the real images, to be given back clean."""
        context.logged["twin_radius"] = torch.tensor(self.eps * self._strength)
        (clean,) = context.inputs
        n = round(self._strength * self.shares[0] * len(clean.images))
        if not n:
            return
        images, labels = clean.images[:n], None if clean.labels is None else clean.labels[:n]
        source = generator(self.seed, "adversarial_training", "autoencoder", context.images_seen, context.rank)
        noise = torch.rand(images.shape, generator=source).mul_(2).sub_(1).to(images.device)
        moved = worst_inputs(
            context.module, images, labels, noise, eps=self.eps * self._strength, norm=self.norm, steps=self.steps
        )
        weight = self.reconstruction_weight * n / len(clean.images)
        context.inputs.append(Inputs(moved, labels, real=True, target=images, weight=weight))

    def _perturb(self, context: StepContext, sources: Sequence[Inputs]) -> Tensor:
        """All images of ``sources`` after projected ascent from a random start on the weighted losses of both heads."""
        module, eps = context.module, self.eps * self._strength
        alpha = step_size(eps, self.steps)
        images = torch.cat([part.images for part in sources]).detach()
        real = torch.cat([torch.full((len(part.images),), part.real, device=images.device) for part in sources])
        labels = None if sources[0].labels is None else torch.cat([part.labels for part in sources])  # type: ignore[misc]
        source = generator(self.seed, "adversarial_training", context.images_seen, context.rank)
        noise = torch.rand(images.shape, generator=source).mul_(2).sub_(1).to(images.device)
        with shielded(module.observers("discriminator")):
            ball = PixelSpace().ball(images, eps, self.norm)
            x = ball.start(noise)
            for _ in range(self.steps):
                x = x.detach().requires_grad_(True)
                output = module.discriminate(x)
                loss = self.authenticity_weight * discriminator_loss(output.authenticity, real, "nonsaturating").sum()
                if output.class_logits is not None and labels is not None:
                    loss = loss + self.class_weight * F.cross_entropy(output.class_logits, labels, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, x)
                x = ball.project(x.detach() + alpha * steepest(gradient, self.norm))
        return x.detach()

    def _stay_under_threshold(self, context: StepContext) -> Tensor | None:
        """The generator's ``loss`` hook: the mean excess of its images over each detector's threshold."""
        assert context.output is not None
        excess = [
            F.relu(detector.scores_of_features(context.output.features) - detector.threshold).mean()
            for detector in self._detectors
            if detector.fitted
        ]
        if not excess:
            return None
        penalty = self.detector_weight * torch.stack(excess).sum().float()
        context.logged["detector_penalty"] = penalty.detach()
        return penalty
