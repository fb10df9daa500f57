"""What every evasion attack shares: the radius, the target, the clean decision before and the judgement after."""

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from securegan.attacks.engine import Attack, Search, finish, look, start_noise
from securegan.attacks.shield import shielded
from securegan.attacks.spaces import Ball
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import Objective, Surface, SurfaceName
from securegan.attacks.targets import TargetChoice, TowardsClass, choose_targets
from securegan.attacks.threat import AnyNorm, AttackResult, Knowledge, Norm, Radii, ThreatModel
from securegan.configuration.types import NonNegativeInt, Radius
from securegan.errors import ConfigError, UserError

LATENT_EPS: dict[AnyNorm, float] = {"linf": 0.5, "l2": 2.0}  # standard deviations of the prior


@dataclass
class Task:
    """One call of an attack: what is attacked, how far, and what has been found."""

    surface: Surface  # aimed at the targets, where there are some
    ball: Ball
    inputs: Tensor  # (N, ...) float32
    reference: Tensor  # (N,) as the surface understands it
    clean_right: Tensor  # (N,) bool: those to attack
    search: Search
    purpose: Sequence[int | str]
    keys: Tensor | None
    start: Tensor | None  # (N, ...) where a search within a smaller radius ended

    def open(self, *, early_drop: bool = True) -> Tensor:
        """Indices still worth attacking."""
        return (self.clean_right & ~(self.search.fooled & early_drop)).nonzero().squeeze(1)

    def keys_of(self, where: Tensor) -> Tensor | None:
        """The identities of some of the examples."""
        return None if self.keys is None else self.keys[where.to(self.keys.device)]

    def noise(self, where: Tensor, norm: Norm, *parts: int | str) -> Tensor:
        """Noise as of :func:`start_noise` for some of the examples; ``parts`` name the draw."""
        return start_noise(self.inputs[where], norm, (*self.purpose, *parts), self.keys_of(where))

    def random_start(self, where: Tensor, norm: Norm, *parts: int | str) -> Tensor:
        """Random points of the ball, as far out as the surface wants searches to start; ``parts`` name the draw."""
        ball, share = self.ball[where], self.surface.start_share
        start = ball.start(self.noise(where, norm, *parts))
        return start if share == 1 else ball.project(self.inputs[where].lerp(start, share))

    def beginning(self, where: Tensor, norm: Norm) -> Tensor:
        """Where a search without random starts begins: the inputs, or a random point near where these are flat."""
        x = self.inputs[where]
        if not self.surface.flat_at_input:
            return x.clone()
        return x.lerp(self.ball[where].start(self.noise(where, norm, "beginning")), self.surface.start_share)


def objectives_on(surface: Surface, asked: Sequence[Objective]) -> tuple[Objective, ...]:
    """The asked objectives that differ on this surface; its own first one where none of them does."""
    return tuple(o for o in asked if o in surface.objectives) or surface.objectives[:1]


def laid_out(inputs: Tensor, victims: Sequence[nn.Module]) -> Tensor:
    """``inputs`` in the memory format in which the victims are quickest: channels last for convolutions on a CPU.

    There a step of PGD took 0.84 of the time on a net of 16 and 32 channels with max-pooling, 0.75 on one of 64 and 128
    and 0.97 on one without pooling. What an attack derives from its inputs keeps their format, so :meth:`Tensor.view`
    cannot flatten it and :meth:`Tensor.flatten` can.
    """
    layers = (layer for victim in victims for layer in victim.modules())
    if inputs.dim() == 4 and inputs.device.type == "cpu" and any(isinstance(layer, nn.Conv2d) for layer in layers):
        return inputs.contiguous(memory_format=torch.channels_last)
    return inputs


class EvasionAttack(Attack):
    """Inputs moved within a radius until a decision is wrong; how they are moved is :meth:`search`."""

    knowledge: ClassVar[Knowledge] = "white box"
    minimal: ClassVar[bool] = False  # looks for the nearest success; the radius only says which ones count
    spaces: ClassVar[tuple[Literal["pixels", "latent"], ...]] = ("pixels", "latent")
    only_on: ClassVar[tuple[SurfaceName, ...] | None] = None  # the surfaces it is for; any of its spaces where None
    needs_classes: ClassVar[bool] = False  # works on the logits of a decision among classes
    surrogate: str | None = None  # the run whose class head it is supplied with, in place of the judge

    def __init__(
        self,
        radii: Radii | None,
        norm: AnyNorm,
        *,
        eps: Radius | None = None,
        latent_eps: Radius | None = None,
        targeted: TargetChoice | NonNegativeInt | None = None,
        surfaces: Annotated[Sequence[SurfaceName], MinLen(1)] | None = None,
        adaptive: bool = False,
    ) -> None:
        """Args:
        radii: the data set's, taken where ``eps`` is not given.
        norm: the perturbation is measured in it.
        eps: radius in pixels of ``[0, 1]``.
        latent_eps: radius in the prior's standard deviations; 0.5 in L-inf and 2 in L2 where it is not given.
        targeted: the class to be reached: ``random`` among the wrong ones, the ``next``, the ``least_likely``, or one
            by number; any wrong decision where it is not given.
        surfaces: which to attack; all that the model offers and the attack suits where it is not given.
        adaptive: images are attacked once more, on the decision and the run's detector together.
        """
        if eps is None and radii is None:
            raise ConfigError("attack.eps is missing: expected a radius such as 8/255.")
        self.norm = norm
        self.eps = float(eps) if eps is not None else radii.get(norm) if radii is not None else 0.0
        self.latent_eps = LATENT_EPS.get(norm, 0.0) if latent_eps is None else float(latent_eps)
        self.targeted, self.adaptive = targeted, adaptive
        self.surfaces = None if surfaces is None else tuple(surfaces)

    def check_radius(self) -> None:
        """Raises ConfigError where ``eps`` is more than any two images can differ by; no attack needs it.

        Not the constructor's: the checks of gradient masking double the radius.
        """
        if self.norm == "linf" and self.eps > 1:
            raise ConfigError(
                f"attack.eps={self.eps:g} is not allowed: images lie in [0, 1], so that a radius of 1 holds them all; "
                "grey levels are written as attack.eps=8/255."
            )
        if self.norm == "l0" and self.eps != int(self.eps):
            raise ConfigError(
                f"attack.eps={self.eps:g} is not allowed: {self.name} counts pixels, expected a whole number such as 5."
            )

    @property
    def towards_image(self) -> bool:
        """Whether it aims at a target image, which the surface must then own."""
        return False

    def at(self, factor: float) -> Self:
        """The same attack with ``factor`` times the radius in either space, rounded where it counts pixels."""
        other = copy.copy(self)
        other.eps, other.latent_eps = factor * self.eps, factor * self.latent_eps
        if self.norm == "l0":
            other.eps = float(round(other.eps))
        return other

    def unsuited(self, space: Literal["pixels", "latent"], classes: int) -> str | None:
        """Why the attack is not defined on surfaces of this space and number of classes; None where it is."""
        if space not in self.spaces:
            return f"{self.name} does not attack {'images' if space == 'pixels' else 'latent codes'}"
        if self.needs_classes and not classes:
            return f"{self.name} needs a decision among classes"
        if self.targeted is not None and classes < 3:
            return "a target needs a decision among three classes or more"
        if isinstance(self.targeted, int) and self.targeted >= classes:
            return f"attack.targeted={self.targeted} is not a class, expected a number below {classes}"
        return None

    def settings(self) -> dict[str, bool | int | float | str | list[str]]:
        """What a reader needs to run it again, beside its name."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        return {
            key: value
            for key, value in plain.items()
            if isinstance(value, bool | int | float | str | list) and key != "surfaces"
        }

    def prepare(self, surface: Surface, supplies: Supplies) -> None:
        """Take from ``supplies`` what the attack needs against ``surface``, which is attacked next; here, nothing.

        All processes of a run call it, each with the same supplies.
        """

    def threat(self, surface: Surface) -> ThreatModel:
        goal: Literal["untargeted", "targeted"] = "untargeted" if self.targeted is None else "targeted"
        adaptive = self.adaptive and surface.space.name == "pixels"
        return ThreatModel(self.norm, self._eps(surface), surface.space.name, goal, self.knowledge, adaptive)

    def _eps(self, surface: Surface) -> float:
        return self.eps if surface.space.name == "pixels" else self.latent_eps

    def __call__(
        self,
        surface: Surface,
        inputs: Tensor,
        reference: Tensor,
        *,
        purpose: Sequence[int | str] = ("attack",),
        keys: Tensor | None = None,
        start: Tensor | None = None,
    ) -> AttackResult:
        with shielded(surface.victims):
            inputs, reference = laid_out(inputs.detach().clone().float(), surface.victims), reference.clone()
            ball = surface.space.ball(inputs, self._eps(surface), self.norm)
            with torch.no_grad():
                clean, _ = look(surface, inputs, reference, surface.objectives[0], gradient=False)
                if (lost := int(clean.margin.isnan().sum())) and self.knowledge != "decision":
                    raise UserError(
                        f"the model's decision ({surface.name}) is not a number on {lost} of {len(inputs)} clean "
                        "inputs: nothing can be said of its robustness."
                    )
                right = clean.right
                if self.targeted is not None:
                    surface, reference = self.aimed(surface, inputs, reference, purpose, keys)
                    clean = surface.assess(inputs, reference, surface.objectives[0])
                    right = right & clean.right
            task = Task(surface, ball, inputs, reference, right, Search.begin(inputs, clean), purpose, keys, start)
            if right.any():
                self.search(task)
            result = finish(task.search, ball, right, minimal=self.minimal)
            return replace(result, adversarial=result.adversarial.contiguous())

    def aimed(
        self,
        surface: Surface,
        inputs: Tensor,
        reference: Tensor,
        purpose: Sequence[int | str],
        keys: Tensor | None,
    ) -> tuple[Surface, Tensor]:
        """The decision as the goal has it, and its references: towards the target classes, where there are some."""
        if self.targeted is None:
            return surface, reference
        with shielded(surface.victims), torch.no_grad():
            targets = choose_targets(self.targeted, surface.logits(inputs, reference), reference, purpose, keys)
        towards = TowardsClass(surface)
        return towards, towards.encode(reference, targets)

    @abstractmethod
    def search(self, task: Task) -> None:
        """Offer to ``task.search`` whatever is found for the examples ``task.open()``; the victim is shielded."""
