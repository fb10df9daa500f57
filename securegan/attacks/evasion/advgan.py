"""AdvGAN (Xiao et al. 2018, arXiv 1801.02610): a network trained to make perturbations, one forward an image.

x' = P(x + eps tanh(G(x))), P the projection onto the ball and [0, 1]. On images other than those attacked, G descends
L = E[max(kappa - m(x'), 0)] + alpha E[(D(x') - 1)^2] + beta E[max(|x' - x|_2 - c, 0)], where m is the decision's margin
(positive is wrong, Carlini & Wagner 2017) and D a discriminator of clean and perturbed images by least squares.
"""

from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from securegan.attacks.evasion.base import EvasionAttack, Task, laid_out
from securegan.attacks.evasion.black_box import ask
from securegan.attacks.spaces import magnitude
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import Surface, SurfaceName
from securegan.attacks.targets import TowardsClass, choose_targets
from securegan.attacks.threat import Norm, Radii
from securegan.configuration.types import NonNegativeFloat, PositiveInt, Radius
from securegan.errors import ConfigError
from securegan.randomness import permutation, seed_of

BATCH, LEARNING_RATE = 128, 1e-3
WIDTHS = (8, 16, 32)  # of the encoder, the decoder and the discriminator
RESIDUAL_BLOCKS = 4


class AdvGAN(EvasionAttack):
    """A generator for every surface and radius, trained when it is first needed; no gradients afterwards."""

    name = "advgan"
    spaces: ClassVar[tuple[Literal["pixels", "latent"], ...]] = ("pixels",)
    norm: Norm

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        norm: Norm = "linf",
        split: Literal["train", "calibrate"] = "train",
        images: PositiveInt = 2000,
        epochs: PositiveInt = 30,
        kappa: NonNegativeFloat = 0.0,
        gan_weight: NonNegativeFloat = 1.0,
        hinge_weight: NonNegativeFloat = 1.0,
        bound: Radius | None = None,
        **of_every_attack: Any,
    ) -> None:
        """Args:
        split: from which the generator learns.
        images: how many of them at most.
        epochs: passes over them.
        kappa: margin beyond which a wrong decision gains nothing.
        gan_weight: alpha, of looking like a clean image.
        hinge_weight: beta, of a perturbation longer than ``bound``.
        bound: c, in L2; the longest that the radius allows, which costs nothing, where it is not given.
        of_every_attack: as of :class:`EvasionAttack`.

        Raises:
        ConfigError: a target that differs from image to image: a generator learns one; or ``adaptive``, as its loss
            would be dominated by the decision, and an adversary who hardly heeds the detector proves nothing.
        """
        super().__init__(radii, norm, **of_every_attack)
        if isinstance(self.targeted, str):
            raise ConfigError(
                f"attack.targeted={self.targeted} is not possible with advgan, whose generator learns one target: "
                "expected a class by number."
            )
        if self.adaptive:
            raise ConfigError(
                "attack.adaptive=true is not possible with advgan, whose generator learns the decision alone: "
                "attack=pgd attacks it and the detector together."
            )
        self.split, self.images, self.epochs, self.kappa = split, images, epochs, kappa
        self.gan_weight, self.hinge_weight, self.bound = gan_weight, hinge_weight, bound
        self._known: dict[SurfaceName, tuple[Tensor, Tensor, int]] = {}
        self._generators: WeakKeyDictionary[Surface, dict[float, Perturber]] = WeakKeyDictionary()

    def prepare(self, surface: Surface, supplies: Supplies) -> None:
        """Generators against ``surface`` learn from the supplied images."""
        if supplies.images is not None:
            self._known[surface.name] = *supplies.images(self.split, self.images), supplies.seed
        self._generators.pop(surface, None)

    def search(self, task: Task) -> None:
        generator, where = self._generator(task.surface), task.open()
        ball = task.ball[where]
        with torch.no_grad():
            parts = [generator(part) for part in task.inputs[where].split(BATCH)]
            x = ball.project(ball.origin + ball.eps * torch.cat(parts))
        task.search.offer(where, x, *ask(task.surface, x, task.reference[where]))

    def _generator(self, surface: Surface) -> "Perturber":
        """The one against ``surface`` within the radius, trained now if it was not before."""
        made = self._generators.setdefault(surface.inner if isinstance(surface, TowardsClass) else surface, {})
        if self.eps not in made:
            if surface.name not in self._known:
                raise ValueError(f"advgan needs images of the surface {surface.name} to learn from: call prepare first")
            images, reference, seed = self._known[surface.name]
            images, reference = laid_out(images.detach().clone().float(), surface.victims), reference.clone()
            if isinstance(surface, TowardsClass) and self.targeted is not None:
                reference = self._aimed(surface, images, reference)
            made[self.eps] = self._train(surface, images, reference, seed)
        return made[self.eps]

    def _aimed(self, surface: TowardsClass, images: Tensor, reference: Tensor) -> Tensor:
        """The references of images to be learnt from, with the target of an attack."""
        assert self.targeted is not None
        with torch.no_grad():
            parts = zip(images.split(BATCH), reference.split(BATCH), strict=True)
            logits = torch.cat([surface.inner.logits(part, of_part) for part, of_part in parts])
        return surface.encode(reference, choose_targets(self.targeted, logits, reference, ("advgan",), None))

    def _train(self, surface: Surface, images: Tensor, reference: Tensor, seed: int) -> "Perturber":
        purpose = ("advgan", seed, surface.name)
        with torch.random.fork_rng(devices=[]):  # torch.manual_seed would reach the GPUs' generators as well
            torch.default_generator.manual_seed(seed_of(*purpose))
            generator, discriminator = Perturber(images.shape[1]), discriminator_of(images.shape[1])
        generator, discriminator = generator.to(images.device), discriminator.to(images.device)
        ours, theirs = (torch.optim.Adam(net.parameters(), LEARNING_RATE) for net in (generator, discriminator))
        for epoch in range(self.epochs):
            for index in permutation(len(images), *purpose, epoch).to(images.device).split(BATCH):
                x = images[index]
                moved = surface.space.ball(x, self.eps, self.norm).project(x + self.eps * generator(x))
                if self.gan_weight:
                    theirs.zero_grad()
                    told_apart = (discriminator(x) - 1).square().mean() + discriminator(moved.detach()).square().mean()
                    told_apart.backward()
                    theirs.step()
                ours.zero_grad()
                self._loss(surface, x, moved, reference[index], discriminator).backward()
                ours.step()
        return generator.requires_grad_(False)

    def _loss(self, surface: Surface, x: Tensor, moved: Tensor, reference: Tensor, discriminator: nn.Module) -> Tensor:
        loss = (self.kappa - surface.assess(moved, reference, "margin").value).clamp_min(0).mean()
        if self.gan_weight:
            loss = loss + self.gan_weight * (discriminator(moved) - 1).square().mean()
        if self.bound is not None:
            loss = loss + self.hinge_weight * (magnitude(moved - x, "l2") - self.bound).clamp_min(0).mean()
        return loss


class Perturber(nn.Module):
    """Images ``(N, C, H, W)`` in ``[0, 1]`` to perturbations of their shape in ``[-1, 1]``.

    An encoder, residual blocks and a decoder as in the paper, but normalised over each image as a whole: sides of a few
    pixels are possible, and no image's perturbation hangs on its neighbours.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.down = nn.ModuleList([_block(channels, first), _block(first, second, 2), _block(second, third, 2)])
        self.residual = nn.ModuleList(
            [nn.Sequential(_block(third, third), nn.Conv2d(third, third, 3, padding=1)) for _ in range(RESIDUAL_BLOCKS)]
        )
        self.up = nn.ModuleList([_block(third, second), _block(second, first)])
        self.last = nn.Conv2d(first, channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        sizes: list[tuple[int, int]] = []
        x = images * 2 - 1
        for block in self.down:
            sizes.append((x.shape[2], x.shape[3]))
            x = block(x)
        for block in self.residual:
            x = x + block(x)
        for block, size in zip(self.up, reversed(sizes), strict=False):
            x = block(F.interpolate(x, size, mode="nearest"))
        return self.last(x).tanh()


def discriminator_of(channels: int) -> nn.Module:
    """Images ``(N, C, H, W)`` in ``[0, 1]`` to ``(N, 1)``: 1 for clean ones, 0 for perturbed ones."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((channels, *WIDTHS), WIDTHS, strict=False):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=2), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 1))


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
    return nn.Sequential(convolution, nn.GroupNorm(1, outputs), nn.ReLU())
