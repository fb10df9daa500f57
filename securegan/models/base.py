"""What every generative LightningModule here offers: ports for defences, counters, latents and the training order.

Subclasses name their players and the surfaces they offer, and give ``generate``, ``features`` and what those surfaces
ask for. Counters are images, never Lightning's
``global_step``, which counts every optimiser's steps.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn

from securegan.data.batch import Batch, DataSpec
from securegan.data.module import ImageDataModule
from securegan.errors import UserError
from securegan.models.networks.autoencoder import Posterior
from securegan.models.networks.discriminator import DiscriminatorOutput
from securegan.models.ports import Ports, StepContext
from securegan.randomness import choices, integers, normal

LOSS = "train/loss_"  # then the player and, but for the sum, the term
EXPLODED = 1e6  # a loss beyond it, either way, comes back as rarely as one that is not a number


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """The trainer's callbacks, which Lightning does not declare."""
    return list(trainer.callbacks)  # type: ignore[attr-defined]


class GenerativeModule(pl.LightningModule):
    """Base of the models; manual optimisation, functional randomness, one :class:`Ports` a player."""

    players: tuple[str, ...] = ()
    real_player: str  # the player whose updates see real images
    images_seen: Tensor
    automatic_optimization: bool
    memory_format: torch.memory_format = torch.contiguous_format  # of the networks

    def __init__(self, spec: DataSpec, *, latent_dim: int, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.spec, self.latent_dim, self.seed = spec, latent_dim, seed
        self.conditional = spec.num_classes > 0  # whether outputs are asked for by class
        self.ports = {player: Ports() for player in self.players}
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self.attached = nn.ModuleDict()  # what detectors and defences keep beside the weights, by name
        self.seen = 0  # the same count without a device read
        self.steps = 0  # updates of each player so far; batches are all of one size
        self.step_figures: dict[str, Tensor] = {}  # of the latest batch

    def generate(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Images ``(N, C, H, W)`` in ``[0, 1]`` of the averaged generator in evaluation mode."""
        raise NotImplementedError

    def generate_raw(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The same of the generator as it is trained, not averaged."""
        raise NotImplementedError

    def generator_network(self, averaged: bool) -> nn.Module:
        """What an export takes along: the network that :meth:`generate` (averaged) or :meth:`generate_raw` runs.

        In evaluation mode its forward gives their images for ``(z, y)``, and for ``(z)`` where it is not conditional.
        """
        raise NotImplementedError

    def surfaces(self) -> tuple[str, ...]:
        """Names of the decisions that an adversary can push on, on these data."""
        raise NotImplementedError

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Intermediate feature maps ``(N, C_l, H_l, W_l)`` of ``images (N, C, H, W)`` in ``[0, 1]``, inwards."""
        raise NotImplementedError

    def discriminate(self, images: Tensor) -> DiscriminatorOutput:
        """Both heads and the intermediate features of ``images``; of a model with a discriminator."""
        raise NotImplementedError

    def authenticity_logits(self, images: Tensor) -> Tensor:
        """``(N,)``: that head of :meth:`discriminate` alone, at less cost; surface ``authenticity``."""
        raise NotImplementedError

    def class_logits(self, images: Tensor) -> Tensor:
        """``(N, K)``, likewise; surface ``label``."""
        raise NotImplementedError

    def reconstruct(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """What the averaged autoencoder makes of ``images``, given their classes; surface ``reconstruction``."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> Posterior:
        """What the averaged encoder says of ``images``; of a model that offers ``reconstruction``."""
        raise NotImplementedError

    def reconstruct_raw(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """The same of the autoencoder as it is trained, not averaged; a training attack's victim."""
        raise NotImplementedError

    def victims(self) -> tuple[nn.Module, ...]:
        """The networks that an attack may touch and must leave as it found them."""
        raise NotImplementedError

    def observers(self, player: str) -> tuple[nn.Module, ...]:
        """Those of them with which ``player`` looks at images; an inner maximisation touches no others."""
        raise NotImplementedError

    def latents(self, n: int, *purpose: int | str) -> tuple[Tensor, Tensor | None]:
        """``n`` prior draws ``(n, latent_dim)`` and, if conditional, classes ``(n,)``; a function of ``purpose``.

        Each class comes as often as in the train split: a discriminator would otherwise tell real from generated images
        by their classes, and a distance between the two would count the difference.
        """
        z = normal((n, self.latent_dim), self.seed, "latent", *purpose).to(self.device)
        if not self.conditional:
            return z, None
        if self.spec.balanced:
            return z, integers(self.spec.num_classes, n, self.seed, "class", *purpose).to(self.device)
        return z, choices(self.spec.class_shares, n, self.seed, "class", *purpose).to(self.device)

    def context(self, player: str, inputs: list[Any]) -> StepContext:
        """The step context of one update of ``player``."""
        return StepContext(self, player, self.seen, self.global_rank, inputs)

    @contextmanager
    def around(self, context: StepContext) -> Iterator[None]:
        """All ``around`` hooks of the context's player, entered in order."""
        with ExitStack() as stack:
            for hook in self.ports[context.player].around:
                stack.enter_context(hook(context))
            yield

    def extra_loss(self, context: StepContext) -> Tensor:
        """Sum of the ``loss`` hooks of the context's player (zero where there are none)."""
        total = torch.zeros((), device=self.device)
        for hook in self.ports[context.player].loss:
            term = hook(context)
            if term is not None:
                total = total + term
        return total

    def passing(self, player: str, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The images that every ``gate`` of ``player`` lets pass, and their labels; one at least, as an update needs.

        The share withheld is logged by every rank at every step: the epoch's mean is reduced over ranks.
        """
        gates = self.ports[player].gate
        if not gates:
            return images, labels  # selecting all would cost a copy forwards and a scatter backwards
        keep = torch.ones(len(images), dtype=torch.bool, device=images.device)
        for gate in gates:
            keep &= gate(images.detach(), labels)
        self.log_dict_step({f"train/gated_share_{player}": (~keep).float().mean()})
        if not keep.any():
            keep[0] = True
        return images[keep], None if labels is None else labels[keep]

    def count(self, images: int) -> None:
        """Add ``images`` (of all ranks) to the images seen."""
        self.seen += images
        self.steps = self.seen // images
        self.images_seen += images

    def log_dict_step(self, figures: dict[str, Tensor]) -> None:
        """Collect figures of this step; they are sent to the loggers against images seen."""
        self.step_figures.update({key: value.detach() for key, value in figures.items()})

    def check_finite(self, figures: dict[str, float]) -> None:
        """Raises UserError where a figure of the latest step is not finite, or a loss beyond ``EXPLODED`` either way:
        training on would only spoil the weights. The message names the first, in the order in which they were logged.

        Every rank raises when one rank's figure is broken, so that none waits for the others.
        """
        broken = {key: value for key, value in figures.items() if _is_broken(key, value)}
        anywhere = torch.tensor([len(broken)], device=self.device)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(anywhere)
        if anywhere.item():
            key, value = next(iter(broken.items()), ("a loss of another process", math.nan))
            epochs = self.trainer.current_epoch
            left = f"the point saved after epoch {epochs} is kept" if epochs else "before its first point was saved"
            raise UserError(
                f"{_in_words(key)} became {value:.6g} in step {self.steps} ({self.seen} images): the run ends here, "
                f"{left}; lower the learning rates or the defence's weights."
            )

    def settle(self, data: ImageDataModule) -> None:
        """Make the module ready to be measured or saved after an epoch; all ranks take part.

        Every rank gets the buffers of rank 0: batch-norm statistics differ, and all measure the same network.
        """
        if dist.is_available() and dist.is_initialized():
            for buffer in self.buffers():
                dist.broadcast(buffer, src=0)

    def on_train_epoch_start(self) -> None:
        self.trainer.datamodule.set_epoch(self.trainer.current_epoch)  # type: ignore[attr-defined]

    def augmented(self, batch: Batch) -> Batch:
        """The batch as the data's augmentation leaves it, laid out once for all that reads it."""
        found = self.trainer.datamodule.augment(batch, self.seen, self.global_rank)  # type: ignore[attr-defined]
        return found._replace(images=found.images.contiguous(memory_format=self.memory_format))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.step_figures = {}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.seen = int(checkpoint["state_dict"]["images_seen"])


def _is_broken(key: str, value: float) -> bool:
    return not math.isfinite(value) or (key.startswith(LOSS) and abs(value) > EXPLODED)


def _in_words(key: str) -> str:
    """``train/loss_discriminator_r1`` as the discriminator's r1 loss; any other key as it is."""
    player, _, term = key.removeprefix(LOSS).partition("_")
    if not key.startswith(LOSS):
        return key
    return f"the {player}'s {term.replace('_', ' ')} loss ({key})" if term else f"the {player}'s loss ({key})"
