"""Speed of training: images a second of ours beside plain PyTorch loops with the same networks and losses, as ratios.

Ours is the Trainer of a run (loggers, finite checks, averaged generator; no attack, defence or detector). The loops are
written by hand: ``plain`` in float32 and the contiguous format with the optimiser as it comes, ``tuned`` in the
channels-last format with fused Adam and averages taken in one call, and in ours' precision. All make the same forwards,
backwards and averages and read their losses at every step. The VAE stands beside pythae's trainer as well, where that
is installed: the same encoder and decoder, but its own loss (a sum of squares) and no average.

Each model and precision is a process. There, after every stretch of ours, the trainer waits while the others make one.
Rates are medians over the rounds, ratios medians of the rounds' own. ``bf16-mixed`` is left out on a CPU without
bfloat16 units, where it is many times slower.
Run with ``python benchmarks/training.py [--models gan vae hybrid] [--steps 10] [--rounds 9] [--threads 1]``; writes
``benchmarks/training.json``.
"""

import argparse
import contextlib
import copy
import importlib.util
import io
import json
import logging
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from securegan.configuration.compose import compose_checked
from securegan.experiment import Experiment
from securegan.models.gan.lightning_model import GAN
from securegan.models.hybrid.lightning_model import Hybrid
from securegan.models.networks.autoencoder import Autoencoder
from securegan.models.vae.lightning_model import VAE
from securegan.runs.atomic import write_json
from securegan.runs.folder import environment
from securegan.runs.quiet import quieten

CHILD = "--child"
BATCH, SIDE, CLASSES = 64, 32, 10
TRAIN_SHARE = 0.6
SMALLEST = 1e-7  # added to the squared error before its logarithm, as ours does

Step = Callable[[Tensor, Tensor], list[Tensor]]  # one batch's updates; gives the losses


def pixels(n: int) -> NDArray[np.uint8]:
    """``(n, H, W, 3)`` noise, of one tint a class."""
    rng = np.random.default_rng(0)
    tint = rng.integers(0, 128, (CLASSES, 1, 1, 3), dtype=np.uint8)
    return rng.integers(0, 128, (n, SIDE, SIDE, 3), dtype=np.uint8) + tint[np.arange(n) % CLASSES]


def make_images(folder: Path, n: int) -> None:
    for number, image in enumerate(pixels(n)):
        place = folder / str(number % CLASSES)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:06d}.png", compress_level=1)


class Loop:
    """A hand-written training of one model, from copies of the networks of ours."""

    def __init__(self, module: Any, images: Tensor, labels: Tensor, *, tuned: bool, bf16: bool) -> None:
        """Args: images: uint8 ``(n, C, H, W)`` in memory; bf16: whether forwards run under autocast."""
        self.module, self.images, self.labels = module, images, labels
        self.tuned, self.bf16, self.device = tuned, bf16, images.device
        self.format = torch.channels_last if tuned else torch.contiguous_format
        self.seen = 0
        make = {Hybrid: self.hybrid, GAN: self.gan, VAE: self.vae}[type(module)]
        self.step: Step = make()
        self.batches = self._batches()

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            images, labels = next(self.batches)
            losses = self.step(images, labels)
            if not all(map(math.isfinite, torch.stack(losses).tolist())):
                raise FloatingPointError("a loss is not finite")

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for rows in torch.randperm(len(self.images)).split(BATCH):
                if len(rows) == BATCH:
                    chosen = rows.to(self.device)
                    images = self.images[chosen].float().div_(255)
                    yield images.contiguous(memory_format=self.format), self.labels[chosen]

    def own(self, network: nn.Module) -> nn.Module:
        return copy.deepcopy(network).to(self.device).to(memory_format=self.format).train()

    def adam(self, groups: Any, betas: tuple[float, float]) -> Adam:
        return Adam(groups, betas=betas, fused=True) if self.tuned else Adam(groups, betas=betas)

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def average(self, live: nn.Module) -> Callable[[], None]:
        """A moving average of ``live`` and the function that moves it."""
        averaged = copy.deepcopy(live).requires_grad_(False).eval()
        half_life, ramp = self.module.ema.half_life, self.module.ema.ramp
        sources = [*live.parameters(), *(buffer for buffer in live.buffers() if buffer.is_floating_point())]
        targets = [*averaged.parameters(), *(buffer for buffer in averaged.buffers() if buffer.is_floating_point())]

        @torch.no_grad()
        def move() -> None:
            self.seen += BATCH
            weight = 1 - 0.5 ** (BATCH / min(half_life, ramp * self.seen))
            if self.tuned:
                torch._foreach_lerp_(targets, sources, weight)
            else:
                for target, source in zip(targets, sources, strict=True):
                    target.lerp_(source, weight)

        return move

    def vae(self) -> Step:
        autoencoder: Any = self.own(self.module.autoencoder)
        optimizer = self.adam([{"params": autoencoder.parameters(), "lr": self.module.lr}], self.module.betas)
        move = self.average(autoencoder)
        beta = self.module.beta / (self.module.kl_warmup_epochs + 1)  # of the first epoch

        def step(images: Tensor, labels: Tensor) -> list[Tensor]:
            with self.autocast():
                mean, log_variance = autoencoder.encoder(images)
                noise = torch.randn(mean.shape, device=self.device)
                outputs = autoencoder.decoder(mean + (0.5 * log_variance).exp() * noise, labels)
                error = F.mse_loss(outputs.float(), images)
                distortion = 0.5 * (error + SMALLEST).log() + 0.5 * math.log(2 * math.pi * math.e)
                kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
                loss = distortion + beta * kl / images[0].numel()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            move()
            return [loss.detach(), distortion.detach(), kl.detach()]

        return step

    def gan(self) -> Step:
        generator: Any = self.own(self.module.generator)
        discriminator, first, betas = self._discriminator()
        second = self.adam([{"params": generator.parameters(), "lr": self.module.rates[2]}], betas)
        move = self.average(generator)

        def step(images: Tensor, labels: Tensor) -> list[Tensor]:
            z = torch.randn(BATCH, self.module.latent_dim, device=self.device)
            y = torch.randint(CLASSES, (BATCH,), device=self.device)
            with self.autocast():
                fakes = generator(z, y)
            losses = self._discriminator_step(discriminator, first, images, labels, fakes.detach())
            discriminator.requires_grad_(False)
            with self.autocast():
                adversarial, classes = self._game(discriminator, fakes, y)
                loss = adversarial + classes
            second.zero_grad()
            loss.backward()
            second.step()
            discriminator.requires_grad_(True)
            move()
            return [*losses, adversarial.detach(), classes.detach(), loss.detach()]

        return step

    def hybrid(self) -> Step:
        autoencoder: Any = self.own(self.module.autoencoder)
        encoder, generator = autoencoder.encoder, autoencoder.decoder
        discriminator, first, betas = self._discriminator()
        trained = [
            {"params": generator.parameters(), "lr": self.module.rates[2]},
            {"params": encoder.parameters(), "lr": self.module.lr_encoder},
        ]
        second = self.adam(trained, betas)
        move = self.average(autoencoder)
        of_features, of_pixels, of_kl = self.module.weights
        if of_pixels:
            raise NotImplementedError("the loop measures errors in features alone")

        def features(images: Tensor) -> Tensor:
            hidden = images * 2 - 1
            for block in discriminator.blocks[: self.module.feature_block + 1]:
                hidden = block(hidden)
            return hidden

        def step(images: Tensor, labels: Tensor) -> list[Tensor]:
            z = torch.randn(BATCH, self.module.latent_dim, device=self.device)
            y = torch.randint(CLASSES, (BATCH,), device=self.device)
            with self.autocast():
                mean, log_variance = encoder(images)
                codes = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, device=self.device)
                fakes, copies = generator(torch.cat([z, codes.to(z)]), torch.cat([y, labels])).split(BATCH)
            losses = self._discriminator_step(discriminator, first, images, labels, fakes.detach())
            discriminator.requires_grad_(False)
            with self.autocast():
                adversarial, classes = self._game(discriminator, fakes, y)
                kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
                kl = of_kl * kl / self.module.latent_dim
                discriminator.eval()  # spectral norm keeps its vectors
                wanted = features(images).detach()
                found = features(copies)
                discriminator.train()
                reconstruction = of_features * F.mse_loss(found.float(), wanted.float()) / wanted.var().clamp_min(1e-8)
                loss = adversarial + classes + kl + reconstruction
            second.zero_grad()
            loss.backward()
            second.step()
            discriminator.requires_grad_(True)
            move()
            generators = [adversarial.detach(), classes.detach(), kl.detach(), reconstruction.detach(), loss.detach()]
            return [*losses, *generators]

        return step

    def _discriminator(self) -> tuple[Any, Adam, tuple[float, float]]:
        discriminator: Any = self.own(self.module.discriminator)
        classes = discriminator.class_parameters()
        known = {id(parameter) for parameter in classes}
        others = [parameter for parameter in discriminator.parameters() if id(parameter) not in known]
        rates = self.module.rates
        groups = [{"params": others, "lr": rates[0]}, {"params": classes, "lr": rates[1]}]
        return discriminator, self.adam(groups, self.module.betas), self.module.betas

    def _discriminator_step(
        self, discriminator: Any, optimizer: Adam, images: Tensor, labels: Tensor, fakes: Tensor
    ) -> list[Tensor]:
        with self.autocast():
            output = discriminator(torch.cat([images, fakes]))
            of_real = F.softplus(-output.authenticity[:BATCH]).mean()
            of_fake = F.softplus(output.authenticity[BATCH:]).mean()
            classes = self.module.class_weight * F.cross_entropy(output.class_logits[:BATCH], labels)
            loss = of_real + of_fake + classes
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return [(of_real + of_fake).detach(), classes.detach(), loss.detach()]

    def _game(self, discriminator: Any, fakes: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        output = discriminator(fakes)
        weight = self.module.generator_class_weight
        return F.softplus(-output.authenticity).mean(), weight * F.cross_entropy(output.class_logits, y)


def pythae_loop(autoencoder: Autoencoder, images: Tensor, latent_dim: int, place: Path) -> Callable[[int], None]:
    """Stretches of pythae's trainer: each an epoch over as many images as the stretch asks for.

    Its decoders are told no class, so each image gets class 0 here.
    """
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as TheirVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.getLogger("pythae").setLevel(logging.ERROR)

    class TheirEncoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = copy.deepcopy(autoencoder.encoder)

        def forward(self, inputs: Tensor) -> Any:
            mean, log_variance = self.network(inputs)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class TheirDecoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = copy.deepcopy(autoencoder.decoder)

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.network(z, torch.zeros(len(z), dtype=torch.int64, device=z.device)))

    config = VAEConfig(input_dim=(3, SIDE, SIDE), latent_dim=latent_dim, reconstruction_loss="mse")
    model = TheirVAE(config, TheirEncoder(), TheirDecoder()).to(memory_format=torch.contiguous_format)
    how = BaseTrainerConfig(
        output_dir=str(place),
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        num_epochs=1,
        learning_rate=1e-3,
        no_cuda=images.device.type == "cpu",
    )

    trainers: dict[int, Any] = {}

    def stretch(steps: int) -> None:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            train(steps)

    def train(steps: int) -> None:
        if steps not in trainers:
            chosen = images[: steps * BATCH].float().cpu() / 255
            data = BaseDataset(chosen, torch.zeros(len(chosen)))
            trainers[steps] = BaseTrainer(model, train_dataset=data, training_config=how)
            trainers[steps].prepare_training()
        trainers[steps].train_step(epoch=1)

    return stretch


class Rounds(pl.Callback):
    """Clocks stretches of the trainer's steps, and one of every other case after each; the first warms up.

    Must be the last callback, so that what the others do within a stretch is in its time.
    """

    def __init__(self, others: dict[str, Callable[[int], None]], steps: int, rounds: int) -> None:
        self.others, self.steps, self.rounds = others, steps, rounds
        self.rates: dict[str, list[float]] = {name: [] for name in ("securegan", *others)}
        self.begun: float | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % self.steps:
            return
        now = _now()
        if self.begun is not None:
            self.rates["securegan"].append(self.steps * BATCH / (now - self.begun))
        for name, other in self.others.items():
            start = _now()
            other(self.steps)
            if self.begun is not None:
                self.rates[name].append(self.steps * BATCH / (_now() - start))
        if len(self.rates["securegan"]) == self.rounds:
            trainer.should_stop = True
        self.begun = _now()


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def child(model: str, precision: str, images: str, place: str, steps: int, rounds: int, threads: int) -> None:
    """One process: all cases of a model in one precision; prints the rates of the rounds."""
    quieten()
    own = ["data=folder", f"data.path={images}", f"cache_dir={place}/cache", "attack=none", "defense=none"]
    little = ["detector=none", "metrics.generated=200", "logger=csv", "trainer.max_epochs=1"]
    how = [f"model={model}", f"trainer.precision={precision}", f"trainer.threads={threads}", f"data.batch_size={BATCH}"]
    (config,) = compose_checked([*own, *little, *how])
    with Experiment.start(Path(place) / f"run-{model}-{precision}", config) as experiment:
        data, module = experiment.data, experiment.module
        whole = data.chunk("train", 0, data.split_size("train"))
        device = experiment.trainer.strategy.root_device
        held, labels = whole.images.mul(255).round().to(device, torch.uint8), whole.labels.to(device)
        others: dict[str, Callable[[int], None]] = {
            name: Loop(module, held, labels, tuned=name == "tuned", bf16=precision == "bf16-mixed" and name == "tuned")
            for name in ("plain", "tuned")
        }
        if isinstance(module, VAE) and importlib.util.find_spec("pythae"):
            others["pythae"] = pythae_loop(module.autoencoder, held, module.latent_dim - 1, Path(place) / "pythae")
        clock = Rounds(others, steps, rounds)
        experiment.trainer.callbacks.append(clock)  # type: ignore[attr-defined]
        experiment.fit()
    print(json.dumps(clock.rates))


def precisions() -> list[str]:
    """Those that this machine has units for."""
    has_bf16 = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return ["32-true", *(["bf16-mixed"] if has_bf16 else [])]


def main() -> None:
    """One process a model and precision; prints rates and ratios, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["gan", "vae", "hybrid"], choices=["gan", "vae", "hybrid"])
    parser.add_argument("--steps", type=int, default=10, help="of a stretch")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    start = time.monotonic()
    torch.set_num_threads(chosen.threads)
    if not importlib.util.find_spec("pythae"):
        print("pythae is not installed: its VAE is left out")
    rows = []
    with tempfile.TemporaryDirectory() as place:
        images = Path(place) / "images"
        make_images(images, math.ceil(chosen.steps * (chosen.rounds + 2) * BATCH / TRAIN_SHARE))
        for model in chosen.models:
            for precision in precisions():
                settings = [str(x) for x in (images, place, chosen.steps, chosen.rounds, chosen.threads)]
                arguments = [sys.executable, __file__, CHILD, model, precision, *settings]
                done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
                rates: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
                figures = {f"speed/{name}_images_per_second": found for name, found in rates.items()}
                medians = {name: statistics.median(found) for name, found in rates.items()}
                print(f"{model}, {precision}: " + ", ".join(f"{name} {rate:.0f}" for name, rate in medians.items()))
                for name, found in list(rates.items())[1:]:
                    ratios = [ours / other for ours, other in zip(rates["securegan"], found, strict=True)]
                    figures[f"speed/ratio_to_{name}"] = ratios
                    print(f"  ours to {name}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
                setting = {"model": model, "precision": precision, "batch_size": BATCH, "side": SIDE}
                rows.append(
                    {
                        "setting": {**setting, "steps": chosen.steps, "threads": chosen.threads},
                        "metrics": figures,
                        "n": chosen.steps * BATCH,
                        "seeds": [0],
                    }
                )
    results = {
        "command": " ".join(["python benchmarks/training.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - start),
        "rows": rows,
    }
    write_json(Path(__file__).with_suffix(".json"), {**environment(), **results})


if __name__ == "__main__":
    if CHILD in sys.argv:
        child(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5], *(int(number) for number in sys.argv[6:]))
    else:
        main()
