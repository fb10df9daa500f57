"""The updates of a GAN's two players: which losses each descends, and where defences and augmentation come in."""

from itertools import zip_longest

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from securegan.models.base import GenerativeModule
from securegan.models.gan.diffaugment import AdaptiveProbability, Transform, diffaugment
from securegan.models.gan.losses import GANLoss, discriminator_losses, generator_loss, paired_loss
from securegan.models.gan.penalties import Penalties, held
from securegan.models.networks.discriminator import DiscriminatorOutput, TwoHeadDiscriminator
from securegan.models.ports import Inputs, StepContext

Term = tuple[str, Tensor]  # of a player's loss, with its name


class Updates(GenerativeModule):
    """One update of a player at a time; who builds the players and calls for their updates is the subclass."""

    discriminator: TwoHeadDiscriminator
    loss_kind: GANLoss
    class_weight: float
    generator_class_weight: float
    transforms: tuple[Transform, ...]
    ada: AdaptiveProbability | None
    penalties: Penalties
    memory_format: torch.memory_format

    def discriminate(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        """As in the base; with a projection, ``labels (N,)`` are those to judge the images' authenticity with."""
        return self.discriminator(images.contiguous(memory_format=self.memory_format), labels)

    def authenticity_logits(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.discriminator.authenticity_logits(images.contiguous(memory_format=self.memory_format), labels)

    def class_logits(self, images: Tensor) -> Tensor:
        return self.discriminator.class_logits(images.contiguous(memory_format=self.memory_format))

    def _own_terms(self) -> list[Term]:
        """Further terms of the generator's loss."""
        return []

    def _discriminator_step(self, optimizer: Optimizer, real: Inputs, fakes: Tensor, y: Tensor | None) -> Tensor:
        generated = Inputs(fakes, y, real=False, class_weight=0.0)  # early samples would teach wrong classes
        context = self.context("discriminator", [real, generated])
        for hook in self.ports["discriminator"].batch:
            hook(context)
        with self.around(context):
            output = self._read(context)
            terms = [*self._weighted_losses(context, output), *self._defences(context)]
            loss = self._update(optimizer, context, [*terms, *self._penalty(context, real, generated)])
        self.log_dict_step({f"train/{name}": value for name, value in context.logged.items()})
        return loss

    def _update(self, optimizer: Optimizer, context: StepContext, terms: list[Term]) -> Tensor:
        """Step down the sum of ``terms``, which is returned; terms of one name are logged together."""
        loss = torch.zeros((), device=self.device)
        for name, term in terms:
            loss = loss + term
            key = f"loss_{context.player}_{name}"
            context.logged[key] = context.logged.get(key, 0) + term.detach()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss

    def _defences(self, context: StepContext) -> list[Term]:
        return [("defences", self.extra_loss(context))] if self.ports[context.player].loss else []

    def _read(self, context: StepContext) -> DiscriminatorOutput:
        """The discriminator on the update's images as they are augmented for it; hooks are given them as they are."""
        labels = [part.labels for part in context.inputs if part.labels is not None]
        known = torch.cat(labels) if len(labels) == len(context.inputs) else None
        output = self.discriminate(self._varied(context.images, context.player), known)
        context.output = output
        if self.transforms and self.ports[context.player].loss:
            with held(self.discriminator):
                context.output = self.discriminate(context.images, known)
        return output

    def _varied(self, images: Tensor, purpose: str) -> Tensor:
        """``images`` under the differentiable augmentation of this step."""
        probability = 1.0 if self.ada is None else self.ada.probability
        return diffaugment(
            images, self.transforms, probability, self.seed, "diffaugment", purpose, self.seen, self.global_rank
        )

    def _weighted_losses(self, context: StepContext, output: DiscriminatorOutput) -> list[Term]:
        """Adversarial and class losses: each origin's mean, weighted."""
        sizes = [len(part.images) for part in context.inputs]
        logits = output.authenticity.split(sizes)
        weighed = [(x, part.real, part.authenticity_weight) for x, part in zip(logits, context.inputs, strict=True)]
        if self.ada is not None:
            self._adapt(logits[0].detach(), logits[1].detach())
            context.logged["ada_probability"] = self.ada.probability.clone()
        adversarial = discriminator_losses(weighed, self.loss_kind)
        classes = self._class_losses(context, output.class_logits, sizes)
        named = ((("adversarial", one), ("class", other)) for one, other in zip_longest(adversarial, classes))
        return [(name, term) for pair in named for name, term in pair if term is not None]

    def _class_losses(self, context: StepContext, class_logits: Tensor | None, sizes: list[int]) -> list[Tensor | None]:
        """Those of the inputs that teach classes, in their order."""
        if class_logits is None:
            return []
        return [
            self.class_weight * part.class_weight * F.cross_entropy(logits, part.labels)
            if part.labels is not None and part.class_weight
            else None
            for part, logits in zip(context.inputs, class_logits.split(sizes), strict=True)
        ]

    def _adapt(self, real: Tensor, fake: Tensor) -> None:
        """Tell the adaptive probability how real the real images seemed.

        A loss of differences leaves the logits' zero anywhere: real ones are then compared with generated ones.
        """
        assert self.ada is not None
        if self.loss_kind in ("relativistic", "wasserstein"):
            real = real - fake[torch.arange(len(real), device=fake.device) % len(fake)]
        self.ada.observe(real)

    def _penalty(self, context: StepContext, real: Inputs, fake: Inputs) -> list[Term]:
        """On the slopes at the clean images, in a forward of its own that leaves no trace in spectral norm."""
        if not self.penalties.due(context.images_seen // (len(fake.images) * self.trainer.world_size)):
            return []
        with held(self.discriminator):
            key = (self.seed, "gradient_penalty", context.images_seen, context.rank)
            return self.penalties.terms(self._authenticity, real, fake, *key)

    def _authenticity(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.authenticity_logits(self._varied(images, "clean"), labels)

    def _generator_step(self, optimizer: Optimizer, context: StepContext, real: Inputs) -> Tensor:
        """One update within the context's ``around`` hooks, which the caller has entered."""
        for hook in self.ports["generator"].batch:
            hook(context)
        labels = [part.labels for part in context.inputs if part.labels is not None]
        self.discriminator.requires_grad_(False)
        try:
            output = self._read(context)
            terms = [("adversarial", self._game_loss(output.authenticity, real))]
            if output.class_logits is not None and labels and self.generator_class_weight:
                terms.append(
                    ("class", self.generator_class_weight * F.cross_entropy(output.class_logits, torch.cat(labels)))
                )
            loss = self._update(optimizer, context, [*terms, *self._own_terms(), *self._defences(context)])
        finally:
            self.discriminator.requires_grad_(True)
        self.log_dict_step({f"train/{name}": value for name, value in context.logged.items()})
        return loss

    def _game_loss(self, logits: Tensor, real: Inputs) -> Tensor:
        """The generator's mean adversarial loss for its images' ``logits``, which are to get ahead of the ``real``."""
        if self.loss_kind != "relativistic":
            return generator_loss(logits, self.loss_kind).mean()
        with torch.no_grad(), held(self.discriminator):
            level = self._authenticity(real.images, real.labels)
        return paired_loss(logits, level).mean()
