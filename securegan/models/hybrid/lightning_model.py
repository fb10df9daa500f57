"""VAE-GAN (Larsen et al. 2016, arXiv 1512.09300): a GAN whose generator also decodes an encoder's codes of real images.

The discriminator plays against the outputs of prior codes, as in the GAN. In the generator's update the encoder and the
generator give real images back, measured in the discriminator's features (the paper's eq. 7-8), and the encoder keeps
to the prior. Prior codes and encoded ones pass the generator in one forward, so that its batch norms see both. Unlike
the paper's, reconstructions do not enter the game: the encoder would have to be shielded from it.
"""

from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from securegan.configuration.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from securegan.data.batch import Batch, DataSpec
from securegan.errors import ConfigError
from securegan.models.ema import GeneratorEMA
from securegan.models.gan.lightning_model import GAN
from securegan.models.gan.penalties import held
from securegan.models.gan.updates import Term
from securegan.models.networks.autoencoder import Autoencoder, Encoder, Posterior
from securegan.models.ports import Inputs, StepContext
from securegan.randomness import normal, seed_of


class Hybrid(GAN):
    """The GAN's players and an ``autoencoder``, whose update is part of the generator's."""

    players = ("discriminator", "generator", "autoencoder")

    def __init__(
        self,
        spec: DataSpec,
        seed: int,
        *,
        encoder_width: PositiveInt = 32,
        lr_encoder: PositiveFloat = 1e-3,
        reconstruction_weight: NonNegativeFloat = 3.0,
        pixel_weight: NonNegativeFloat = 0.0,
        kl_weight: NonNegativeFloat = 0.1,
        feature_block: NonNegativeInt = 1,
        **of_the_gan: Any,
    ) -> None:
        """Networks from ``seed``; see the defaults above and those of :class:`GAN`.

        Args:
            spec: of the data.
            seed: of the run.
            encoder_width: channels of the encoder's outermost feature map, doubled inwards up to eight times.
            lr_encoder: of Adam.
            reconstruction_weight: of the error in the discriminator's features, as a share of their variance.
            pixel_weight: of the error in pixels, as a share of their variance.
            kl_weight: of the KL divergence a latent coordinate.
            feature_block: the discriminator's block, from the image inwards, in whose features errors are measured.
            **of_the_gan: every setting of :class:`GAN`.

        Raises:
            ConfigError: as GAN, or a block that is not there.
        """
        super().__init__(spec, seed, **of_the_gan)
        blocks = len(self.discriminator.blocks)
        if feature_block >= blocks:
            raise ConfigError(
                f"model.feature_block={feature_block} is not allowed: the discriminator has the blocks 0 to "
                f"{blocks - 1}."
            )
        self.weights = float(reconstruction_weight), float(pixel_weight), float(kl_weight)
        self.feature_block, self.lr_encoder = feature_block, float(lr_encoder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "encoder"))
            network = of_the_gan.get("network", "dcgan")
            encoder = Encoder(network, self.latent_dim, spec.channels, spec.size, encoder_width)
        self.autoencoder = Autoencoder(encoder, self.generator).to(memory_format=self.memory_format)
        self.ema = GeneratorEMA(self.autoencoder, self.ema.half_life, self.ema.ramp)
        self._coded: tuple[StepContext, Posterior, Tensor] | None = None  # of the update under way

    @property
    def averaged(self) -> Autoencoder:
        """The moving average of encoder and generator."""
        return cast(Autoencoder, self.ema.averaged)

    @property
    def trained(self) -> nn.Module:
        return self.autoencoder

    def surfaces(self) -> tuple[str, ...]:
        *others, latent = super().surfaces()
        return (*others, "reconstruction", latent)

    def generate(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self.averaged.decoder(z, y)

    def generator_network(self, averaged: bool) -> nn.Module:
        return self.averaged.decoder if averaged else self.generator

    def reconstruct(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.averaged(images.contiguous(memory_format=self.memory_format), labels)

    def encode(self, images: Tensor) -> Posterior:
        return self.averaged.encoder(images.contiguous(memory_format=self.memory_format))

    def reconstruct_raw(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.autoencoder(images.contiguous(memory_format=self.memory_format), labels)

    def victims(self) -> tuple[nn.Module, ...]:
        return self.discriminator, self.autoencoder, self.ema

    def observers(self, player: str) -> tuple[nn.Module, ...]:
        return (self.autoencoder,) if player == "autoencoder" else super().observers(player)

    def configure_optimizers(self) -> list[Optimizer]:
        first, second = super().configure_optimizers()
        second.add_param_group({"params": list(self.autoencoder.encoder.parameters()), "lr": self.lr_encoder})
        return [first, second]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        with ExitStack() as self._entered:  # the autoencoder's ``around`` hooks, from its forward to the step
            super().training_step(batch, batch_idx)

    def _outputs(self, z: Tensor, y: Tensor | None, real: Inputs) -> Tensor:
        """Outputs of prior codes; reconstructions of ``real`` come from the same forward and are kept.

        The autoencoder's gates see what those of the discriminator let pass.
        """
        given = Inputs(*self.passing("autoencoder", real.images, real.labels), real=True)
        context = self.context("autoencoder", [given])
        for hook in self.ports["autoencoder"].batch:
            hook(context)
        self._entered.enter_context(self.around(context))
        posterior: Posterior = self.autoencoder.encoder(context.images.contiguous(memory_format=self.memory_format))
        noise = normal(posterior.mean.shape, self.seed, "posterior", self.seen, self.global_rank).to(self.device)
        codes = torch.cat([z, posterior.sample(noise).to(z)])
        labels = [part.labels for part in context.inputs if part.labels is not None]
        outputs = self.generator(codes, None if y is None else torch.cat([y, *labels]))
        self._coded = context, posterior, outputs[len(z) :]
        return outputs[: len(z)]

    def _own_terms(self) -> list[Term]:
        """Errors of the reconstructions as shares of the variance, and the KL divergence a coordinate."""
        assert self._coded is not None
        context, posterior, outputs = self._coded
        self._coded = None
        weights = context.shares()
        targets = context.targets
        of_features, of_pixels, of_kl = self.weights
        terms = [("kl", of_kl * (weights * posterior.divergence()).sum() / self.latent_dim)]
        if of_features:
            with held(self.discriminator):
                wanted = self._features(targets).detach()
                terms.append(("reconstruction", of_features * _unexplained(self._features(outputs), wanted, weights)))
        if of_pixels:
            terms.append(("pixels", of_pixels * _unexplained(outputs, targets, weights)))
        terms += self._defences(context)
        context.logged |= {f"loss_autoencoder_{name}": term.detach() for name, term in terms}
        context.logged["loss_autoencoder"] = torch.stack([term.detach() for _, term in terms]).sum()
        self.log_dict_step({f"train/{name}": value for name, value in context.logged.items()})
        return terms

    def _features(self, images: Tensor) -> Tensor:
        hidden = images.contiguous(memory_format=self.memory_format) * 2 - 1
        for block in self.discriminator.blocks[: self.feature_block + 1]:
            hidden = block(hidden)
        return hidden


def _unexplained(found: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean squared error over the variance of ``wanted (N, C, H, W)``."""
    error = (weights * (found - wanted).square().mean((1, 2, 3))).sum()
    return error / wanted.var().clamp_min(1e-8)
