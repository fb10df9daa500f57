"""Convolutional variational autoencoder (Kingma & Welling 2014, arXiv 1312.6114), class-conditional where labelled.

The encoder sees the image alone, the decoder the code and the class (Sohn et al. 2015). Networks:
:mod:`securegan.models.networks`; distortion: :mod:`securegan.models.vae.likelihood`; where samples come from:
:mod:`securegan.models.vae.mixture`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from securegan.configuration.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from securegan.data.batch import Batch, DataSpec
from securegan.data.module import ImageDataModule
from securegan.errors import ConfigError
from securegan.models.base import LOSS, GenerativeModule
from securegan.models.ema import GeneratorEMA
from securegan.models.networks.autoencoder import Autoencoder, Encoder, Network, Posterior
from securegan.models.networks.dcgan import DCGANGenerator
from securegan.models.networks.discriminator import SIZES
from securegan.models.networks.resnet import ResNetGenerator, check_attention
from securegan.models.ports import Inputs, StepContext
from securegan.models.vae.likelihood import Distortion, Likelihood
from securegan.models.vae.mixture import LatentMixture, MixtureDecoder
from securegan.models.vae.sampling import fit_mixture
from securegan.randomness import normal, seed_of


class VAE(GenerativeModule):
    """One player, ``autoencoder``, trained on the negative evidence lower bound per pixel value."""

    players = ("autoencoder",)
    real_player = "autoencoder"

    def __init__(
        self,
        spec: DataSpec,
        seed: int,
        *,
        network: Network = "dcgan",
        attention: Literal[8, 16, 32, 64, 128] | None = None,
        latent_dim: PositiveInt = 64,
        encoder_width: PositiveInt = 32,
        decoder_width: PositiveInt = 32,
        conditional: bool = True,
        likelihood: Likelihood = "gaussian",
        ssim_weight: Fraction = 0.5,
        beta: NonNegativeFloat = 1.0,
        kl_warmup_epochs: NonNegativeInt = 2,
        sampling: Literal["prior", "mixture"] = "mixture",
        mixture_components: PositiveInt = 10,
        lr: PositiveFloat = 1e-3,
        beta1: Annotated[float, Ge(0), Lt(1)] = 0.9,
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
            attention: side of the feature maps that attend to themselves in encoder and decoder; ``resnet`` only.
            latent_dim: of the codes.
            encoder_width: channels of the outermost feature map, doubled inwards up to eight times.
            decoder_width: likewise.
            conditional: whether the decoder is told the class, where the data are labelled.
            likelihood: of an image given its code.
            ssim_weight: exponent of 1 - SSIM beside the squared error, with ``likelihood=ssim``.
            beta: weight of the KL divergence (Higgins et al. 2017); 1 is the evidence lower bound.
            kl_warmup_epochs: before that weight is whole; it grows by equal steps, in the first epoch by one already
                (after Bowman et al. 2016, who begin at 0).
            sampling: from the prior, or from a mixture fitted to the codes of train images after every epoch.
            mixture_components: of a class at most, or of all unlabelled data.
            lr: of Adam.
            beta1: of Adam.
            beta2: likewise.
            ema_half_life: of the averaged autoencoder, in images.
            ema_ramp: share of the images seen that the half-life never exceeds; null for a constant one.
            channels_last: memory format of the networks.

        Raises:
            ConfigError: a size that is not a power of two from 32 to 256, or attention where there is no such map.
        """
        super().__init__(spec, latent_dim=latent_dim + (sampling == "mixture"), seed=seed)
        if spec.size not in SIZES:
            raise ConfigError(f"data.size={spec.size} is not allowed with model=vae: expected one of {list(SIZES)}.")
        check_attention(attention, network, spec.size)
        self.conditional = conditional and spec.num_classes > 0
        self.beta, self.kl_warmup_epochs = float(beta), kl_warmup_epochs
        self.lr, self.betas = float(lr), (beta1, beta2)
        classes = spec.num_classes if self.conditional else 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "weights"))
            encoder = Encoder(network, latent_dim, spec.channels, spec.size, encoder_width, attention)
            of_images = (latent_dim, classes, spec.channels, spec.size, decoder_width)
            decoder = ResNetGenerator(*of_images, attention) if network == "resnet" else DCGANGenerator(*of_images)
        self.autoencoder = Autoencoder(encoder, decoder)
        self.distortion = Distortion(likelihood, spec.channels, float(ssim_weight))
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)
        self.ema = GeneratorEMA(self.autoencoder, ema_half_life, ema_ramp)
        self.mixture = LatentMixture(classes, mixture_components, latent_dim) if sampling == "mixture" else None
        self._settled = -1  # images seen when the mixture was fitted, as far as is known

    @property
    def averaged(self) -> Autoencoder:
        """The moving average of the autoencoder."""
        return cast(Autoencoder, self.ema.averaged)

    def surfaces(self) -> tuple[str, ...]:
        return ("reconstruction", "latent")

    def generate(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self.generator_network(averaged=True)(z, y)

    def generate_raw(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self.generator_network(averaged=False)(z, y)

    def generator_network(self, averaged: bool) -> nn.Module:
        decoder = (self.averaged if averaged else self.autoencoder).decoder
        return decoder if self.mixture is None else MixtureDecoder(self.mixture, decoder)

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.autoencoder.encoder.feature_maps(self._laid_out(images))

    def reconstruct(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.averaged(self._laid_out(images), labels if self.conditional else None)

    def encode(self, images: Tensor) -> Posterior:
        return self.averaged.encoder(self._laid_out(images))

    def reconstruct_raw(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.autoencoder(self._laid_out(images), labels if self.conditional else None)

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=self.memory_format)

    def victims(self) -> tuple[nn.Module, ...]:
        return (self.autoencoder, self.ema)

    def observers(self, player: str) -> tuple[nn.Module, ...]:
        return (self.autoencoder,)

    def configure_optimizers(self) -> Optimizer:
        trained = [*self.autoencoder.parameters(), *self.distortion.parameters()]
        return Adam(trained, lr=self.lr, betas=self.betas, fused=True)

    def settle(self, data: ImageDataModule) -> None:
        """And fit the mixture to the codes of train images, once after every epoch."""
        super().settle(data)
        if self.mixture is not None and self._settled != self.seen:
            fit_mixture(self.mixture, self.averaged.encoder, data, self.seed, self.device)
            self._settled = self.seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A saved point holds the mixture that was fitted to its codes."""
        super().on_load_checkpoint(checkpoint)
        self._settled = self.seen

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer = cast(Optimizer, self.optimizers())
        batch = self.augmented(batch)
        labels = batch.labels if self.spec.num_classes else None
        real = Inputs(*self.passing("autoencoder", batch.images, labels), real=True)
        context = self.context("autoencoder", [real])
        for hook in self.ports["autoencoder"].batch:
            hook(context)
        with self.around(context):
            terms = self._terms(context)
            if self.ports["autoencoder"].loss:
                terms["defences"] = self.extra_loss(context)
            loss = torch.stack(list(terms.values())).sum()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        n = len(batch.images) * self.trainer.world_size
        self.count(n)
        self.ema.update(self.autoencoder, n, self.seen)
        self.log_dict_step({f"{LOSS}autoencoder_{name}": term for name, term in terms.items()})
        self.log_dict_step({f"{LOSS}autoencoder": loss})
        self.log_dict_step({f"train/{name}": value for name, value in context.logged.items()})

    def _terms(self, context: StepContext) -> dict[str, Tensor]:
        """Distortion and weighted KL divergence, nats per pixel value; each origin's mean, weighted."""
        images = context.images
        posterior: Posterior = self.autoencoder.encoder(self._laid_out(images))
        noise = normal(posterior.mean.shape, self.seed, "posterior", self.seen, self.global_rank).to(images.device)
        outputs = self.autoencoder.decoder(posterior.sample(noise), self._classes(context.inputs))
        targets = context.targets
        weights = context.shares()
        distortion = self.distortion(outputs, targets, weights)
        divergence = (weights * posterior.divergence()).sum()
        context.logged["kl"] = divergence
        return {"distortion": distortion, "kl": self._kl_weight() * divergence / targets[0].numel()}

    def _kl_weight(self) -> float:
        """Of this epoch: ``1 / (n + 1)`` of ``beta`` in the first of n of warm-up, ``n / (n + 1)`` in the last."""
        progress = self.trainer.current_epoch + 1
        return self.beta * min(1.0, progress / (self.kl_warmup_epochs + 1))

    def _classes(self, inputs: Sequence[Inputs]) -> Tensor | None:
        labels = [part.labels for part in inputs if part.labels is not None]
        return torch.cat(labels) if self.conditional else None
