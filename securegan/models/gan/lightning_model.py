"""Class-conditional GAN with an auxiliary class head, trained by alternating updates.

One discriminator update (real, generated and whatever the defences add, in one forward), or more, and one generator
update a batch. Networks: :mod:`securegan.models.networks`; updates: :mod:`securegan.models.gan.updates`; losses:
:mod:`securegan.models.gan.losses`.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, cast

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from securegan.configuration.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from securegan.data.batch import Batch, DataSpec
from securegan.errors import ConfigError
from securegan.models.ema import GeneratorEMA
from securegan.models.gan.diffaugment import AdaptiveProbability, Transform
from securegan.models.gan.losses import GANLoss
from securegan.models.gan.penalties import Penalties
from securegan.models.gan.updates import Updates
from securegan.models.networks.autoencoder import Network
from securegan.models.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from securegan.models.networks.discriminator import BASE, SIZES, TwoHeadDiscriminator
from securegan.models.networks.resnet import ResNetDiscriminator, ResNetGenerator, check_attention
from securegan.models.ports import Inputs
from securegan.randomness import seed_of

Condition = Literal["auxiliary", "projection"]


class GAN(Updates):
    """A generator and a discriminator with authenticity and class heads."""

    players: tuple[str, ...] = ("discriminator", "generator")
    real_player = "discriminator"
    generator: DCGANGenerator | ResNetGenerator
    discriminator: TwoHeadDiscriminator

    def __init__(
        self,
        spec: DataSpec,
        seed: int,
        *,
        network: Network = "dcgan",
        attention: Literal[8, 16, 32, 64, 128] | None = None,
        spectral_norm: bool = True,
        condition: Condition = "auxiliary",
        latent_dim: PositiveInt = 64,
        generator_width: PositiveInt = 32,
        discriminator_width: PositiveInt = 32,
        class_width: PositiveInt = 48,
        loss: GANLoss = "nonsaturating",
        r1: NonNegativeFloat = 0.0,
        r2: NonNegativeFloat = 0.0,
        gradient_penalty: NonNegativeFloat = 0.0,
        penalty_every: PositiveInt = 1,
        discriminator_steps: PositiveInt = 1,
        diffaugment: Sequence[Transform] = (),
        ada_target: Annotated[float, Gt(0), Lt(1)] | None = None,
        ada_images: PositiveInt = 500_000,
        class_weight: NonNegativeFloat = 1.0,
        generator_class_weight: NonNegativeFloat | None = None,
        lr_generator: PositiveFloat = 2e-4,
        lr_discriminator: PositiveFloat = 2e-4,
        lr_class: PositiveFloat = 4e-3,
        shared_blocks: NonNegativeInt = 1,
        beta1: Annotated[float, Ge(0), Lt(1)] = 0.5,
        beta2: Annotated[float, Ge(0), Lt(1)] = 0.999,
        ema_half_life: PositiveFloat = 2000.0,
        ema_ramp: PositiveFloat | None = 0.05,
        channels_last: bool = True,
    ) -> None:
        """Networks from ``seed``; see the defaults above.

        Args:
            spec: of the data.
            seed: of the run.
            network: plain (de)convolutions, or residual blocks with class-conditional batch norm.
            attention: side of the feature maps that attend to themselves in both players; ``resnet`` only.
            spectral_norm: of the discriminator's layers but the class head's last.
            condition: how the generator learns the classes of labelled data: from the class head (ACGAN), or from an
                authenticity logit of image and label together.
            latent_dim: of the standard normal prior.
            generator_width: channels of the generator's outermost feature map, doubled inwards up to eight times.
            discriminator_width: of the discriminator's, likewise.
            class_width: of the blocks that serve the class head alone.
            loss: of the game between the players; ``relativistic`` pairs real with generated images.
            r1: gamma of the penalty on the slope at real images, for images in [-1, 1] as in papers; 0 is off.
            r2: the same at generated images.
            gradient_penalty: lambda of WGAN-GP's penalty between real and generated images; 0 is off.
            penalty_every: discriminator updates from one with penalties to the next, whose weights grow as much.
            discriminator_steps: its updates to one of the generator; each sees the batch's real images beside generated
                ones of its own.
            diffaugment: transforms of what the discriminator sees while it trains or teaches, its class head included;
                where many real images are few, they keep it from knowing them by heart.
            ada_target: with which the transforms' probability adapts, as the mean sign of the real images' logits;
                where not given, each is always applied.
            ada_images: in which that probability can go from 0 to 1.
            class_weight: of the class losses beside it.
            generator_class_weight: of the generator's; where not given, the same, or 0 with ``condition=projection``.
            lr_generator: of Adam.
            lr_discriminator: of what serves the authenticity head alone.
            lr_class: of what serves the class head, alone or not, at first.
            shared_blocks: of the discriminator that serve both heads.
            beta1: of Adam, for all.
            beta2: likewise.
            ema_half_life: of the averaged generator, in images.
            ema_ramp: share of the images seen that the half-life never exceeds; null for a constant one.
            channels_last: memory format of the networks.

        Raises:
            ConfigError: a size that is not a power of two from 32 to 256, more shared blocks than there are,
                attention where there is no such feature map, or a Wasserstein loss of unbounded slope.
        """
        super().__init__(spec, latent_dim=latent_dim, seed=seed)
        if spec.size not in SIZES:
            raise ConfigError(f"data.size={spec.size} is not allowed with model=gan: expected one of {list(SIZES)}.")
        if shared_blocks > (spec.size // BASE).bit_length() - 1:
            raise ConfigError(
                f"model.shared_blocks={shared_blocks} is not allowed: a discriminator of {spec.size} pixels has "
                f"{(spec.size // BASE).bit_length() - 1} blocks."
            )
        check_attention(attention, network, spec.size)
        if loss == "wasserstein" and not spectral_norm and not gradient_penalty:
            raise ConfigError(
                "model.loss=wasserstein is not allowed with model.spectral_norm=false and model.gradient_penalty=0: "
                "nothing bounds the discriminator's slope."
            )
        self.loss_kind, self.class_weight = loss, class_weight
        if ada_target is not None and not diffaugment:
            raise ConfigError(
                f"model.ada_target={ada_target} is not allowed with model.diffaugment=[]: name transforms."
            )
        self.transforms = tuple(diffaugment)
        self.ada = None if ada_target is None else AdaptiveProbability(ada_target, ada_images)
        usual = 0.0 if condition == "projection" else class_weight
        self.generator_class_weight = usual if generator_class_weight is None else generator_class_weight
        self.discriminator_steps = discriminator_steps
        self.penalties = Penalties(r1, r2, gradient_penalty, penalty_every)
        self.rates, self.betas = (lr_discriminator, lr_class, lr_generator), (beta1, beta2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "weights"))
            of_images = (spec.num_classes, spec.channels, spec.size)
            widths = (discriminator_width, class_width, shared_blocks)
            options = {"spectral": spectral_norm, "projection": condition == "projection"}
            if network == "resnet":
                self.generator = ResNetGenerator(latent_dim, *of_images, generator_width, attention)
                self.discriminator = ResNetDiscriminator(*of_images, *widths, attention=attention, **options)
            else:
                self.generator = DCGANGenerator(latent_dim, *of_images, generator_width)
                self.discriminator = DCGANDiscriminator(*of_images, *widths, **options)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)
        self.ema = GeneratorEMA(self.generator, ema_half_life, ema_ramp)

    def generate(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self.ema.averaged(z, y)

    def generate_raw(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self.generator(z, y)

    def generator_network(self, averaged: bool) -> nn.Module:
        return self.ema.averaged if averaged else self.generator

    @property
    def trained(self) -> nn.Module:
        """What is averaged."""
        return self.generator

    def surfaces(self) -> tuple[str, ...]:
        return ("label", "authenticity", "latent") if self.spec.num_classes else ("authenticity", "latent")

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.discriminate(images).features

    def victims(self) -> tuple[nn.Module, ...]:
        return self.discriminator, self.generator, self.ema

    def observers(self, player: str) -> tuple[nn.Module, ...]:
        return (self.discriminator,)

    def configure_optimizers(self) -> list[Optimizer]:
        lr_discriminator, lr_class, lr_generator = self.rates
        own = self.discriminator.class_parameters()
        others = [parameter for parameter in self.discriminator.parameters() if all(parameter is not o for o in own)]
        groups = [{"params": others, "lr": lr_discriminator}]
        if own:
            groups.append({"params": own, "lr": lr_class})
        generator = Adam(self.generator.parameters(), lr=lr_generator, betas=self.betas, fused=True)
        return [Adam(groups, lr=lr_discriminator, betas=self.betas, fused=True), generator]

    def on_train_epoch_start(self) -> None:
        """The class head's rate falls along a half cosine: at a constant one its robustness does not settle."""
        super().on_train_epoch_start()
        first = cast(list[Optimizer], self.optimizers())[0]
        progress = self.trainer.current_epoch / max(1, self.trainer.max_epochs or 1)
        for group in first.param_groups[1:]:
            group["lr"] = self.rates[1] * 0.5 * (1 + math.cos(math.pi * progress))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        first, second = cast(list[Optimizer], self.optimizers())
        batch = self.augmented(batch)
        images, labels = batch.images, batch.labels if self.spec.num_classes else None
        real = Inputs(*self.passing("discriminator", images, labels), real=True)
        for step in range(self.discriminator_steps - 1):
            z, y = self.latents(len(images), "train", self.seen, self.global_rank, step)
            with torch.no_grad():
                fakes = self.generator(z, y)
            self._discriminator_step(first, real, fakes, y)
        z, y = self.latents(len(images), "train", self.seen, self.global_rank)
        context = self.context("generator", [])
        with self.around(context):  # the generator's forward serves both updates
            fakes = self._outputs(z, y, real)
            losses = {"train/loss_discriminator": self._discriminator_step(first, real, fakes.detach(), y)}
            context.inputs = [Inputs(*self.passing("generator", fakes, y), real=True)]
            losses["train/loss_generator"] = self._generator_step(second, context, real)
        n = len(images) * self.trainer.world_size
        self.count(n)
        self.ema.update(self.trained, n, self.seen)
        self.log_dict_step(losses)

    def _outputs(self, z: Tensor, y: Tensor | None, real: Inputs) -> Tensor:
        """The generator's outputs of this step, with their graph; ``real`` is for models that look at real images."""
        return self.generator(z, y)
