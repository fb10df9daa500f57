"""What the adapters to other libraries' attacks share.

The library sees a network of images to logits and nothing else of the victim: it cannot touch the victim's parameters,
gradients or train/eval flags. It runs outside inference mode with random states of its own (torch's, numpy's and
Python's), seeded from the purpose and put back afterwards. What it returns is judged by us: an image counts only if it
is within the radius and the decision on it is wrong. Of an adapted attack it is not promised that an example's result
is independent of its neighbours in the batch, because the library draws for the batch as a whole.
"""

import inspect
import math
import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BeforeValidator
from torch import Tensor, nn

from securegan.attacks.engine import look, step_size
from securegan.attacks.evasion.base import EvasionAttack, Task
from securegan.attacks.spaces import Ball, per_example
from securegan.attacks.surfaces import Surface
from securegan.attacks.targets import TowardsClass
from securegan.attacks.threat import AnyNorm, Knowledge, Radii, ThreatModel
from securegan.configuration.types import parse_fraction
from securegan.errors import ConfigError, near_match
from securegan.randomness import seed_of

ORDERS: dict[AnyNorm, float] = {"linf": math.inf, "l2": 2, "l0": 0}
ROUNDING = 2e-7  # by how much float32 arithmetic may miss a value of [0, 1]

Setting = Annotated[
    bool | int | float | str, BeforeValidator(lambda given: parse_fraction(given) if isinstance(given, str) else given)
]


class Victim(nn.Module):
    """A surface's logits of images ``(N, C, H, W)`` as a network without submodules; counts the images it is given."""

    def __init__(self, surface: Surface, device: torch.device) -> None:
        super().__init__()
        self.surface, self.images = surface, 0
        self.anchor = nn.Parameter(torch.zeros(0, device=device), requires_grad=False)  # libraries ask for its device
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return self.surface.logits(x.float(), torch.zeros(len(x), dtype=torch.int64, device=x.device))


class AdaptedAttack(EvasionAttack):
    """An attack of another library, by the name of its class."""

    package: ClassVar[str]
    spaces: ClassVar[tuple[Literal["pixels", "latent"], ...]] = ("pixels",)
    needs_classes: ClassVar[bool] = True

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        attack: str,
        norm: AnyNorm = "linf",
        knows: Knowledge = "white box",
        parameters: Mapping[str, Setting] | None = None,
        **of_every_attack: Any,
    ) -> None:
        """Args:
        attack: the name of the library's class.
        norm: in which results are measured; the library is told where its class asks for a norm.
        knows: what the class sees of the victim, for the threat model; the library does not say it.
        parameters: for the class's constructor. The radius, where it takes one, is ours unless it is given here.
        of_every_attack: as of :class:`EvasionAttack`.

        Raises:
        ConfigError: the library is not installed, has no such attack, or the attack has no such parameter.
        """
        super().__init__(radii, norm, **of_every_attack)
        self.attack, self.knows, self.parameters = attack, knows, dict(parameters or {})
        if find_spec(self.package) is None:
            raise ConfigError(
                f"attack={self.name} needs {self.package}, not installed here: pip install 'securegan[adapters]'."
            )
        known = self.classes()
        if attack not in known:
            raise ConfigError(
                f"attack.attack={attack} is not allowed: expected one of the {len(known)} attacks of {self.package}, "
                f"by the name of its class.{near_match(attack, known)}"
            )
        taken = self._taken()
        for key in self.parameters:
            if taken is not None and key not in taken:
                raise ConfigError(
                    f"attack.parameters.{key} is not a setting: {self.package}'s {attack} has "
                    f"{', '.join(sorted(taken)) or 'none'}.{near_match(key, taken)}"
                )

    @property
    def minimal(self) -> bool:  # type: ignore[override]
        """Whether the class takes no radius and looks for the nearest success instead."""
        taken = self._taken()
        return taken is not None and "eps" not in taken

    def settings(self) -> dict[str, bool | int | float | str | list[str]]:
        return {**super().settings(), **{f"parameters.{key}": value for key, value in self.parameters.items()}}

    def threat(self, surface: Surface) -> ThreatModel:
        return replace(super().threat(surface), knowledge=self.knows)

    @classmethod
    @abstractmethod
    def classes(cls) -> dict[str, type]:
        """The library's attacks by name."""

    @abstractmethod
    def run(self, victim: Victim, images: Tensor, labels: Tensor, *, eps: float, targeted: bool) -> Tensor:
        """What the library makes of ``images (N, C, H, W)``; ``labels (N,)`` are the targets if ``targeted``."""

    def build(self, *first: object, **offered: object) -> Any:
        """The library's attack; of what is ``offered`` it gets what its constructor takes.

        Raises:
            ConfigError: the library refuses the settings.
        """
        taken = self._taken()
        offered |= self._step(offered.get("eps"))
        ours = {key: value for key, value in offered.items() if taken is not None and key in taken}
        try:
            return self.classes()[self.attack](*first, **{**ours, **self.parameters})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"attack.attack={self.attack} cannot be made by {self.package}: {error}.") from None

    def _step(self, eps: object) -> dict[str, object]:
        """A step size that reaches the border of our radius, for classes whose own is made for another."""
        settings = inspect.signature(self.classes()[self.attack]).parameters
        for size, count in (("alpha", "steps"), ("eps_step", "max_iter")):
            if size in settings and count in settings and isinstance(eps, float):
                steps = self.parameters.get(count, settings[count].default)
                if isinstance(steps, int) and steps > 0:
                    return {size: step_size(eps, steps)}
        return {}

    def _taken(self) -> set[str] | None:
        """The names of the constructor's settings; None where it takes any."""
        parameters = list(inspect.signature(self.classes()[self.attack]).parameters.values())
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            return None
        return {parameter.name for parameter in parameters} - {"model", "estimator", "classifier"}

    def search(self, task: Task) -> None:
        where = task.open()
        surface, reference, ball = task.surface, task.reference[where], task.ball[where]
        images = ball.origin.contiguous()
        targeted = isinstance(surface, TowardsClass)
        labels = surface.decode(reference)[1] if isinstance(surface, TowardsClass) else reference
        victim = Victim(surface, images.device)
        with own_randomness(seed_of(*task.purpose, self.package, self.attack), images.device):
            found = self.run(victim, images, labels.long(), eps=ball.eps, targeted=targeted)
        found = without_rounding(ball, found.detach().to(images))
        view, _ = look(surface, found, reference, surface.objectives[0], gradient=False)
        if self.minimal:
            task.search.offer_near(where, found, ball.distance(found), ~view.right)
        else:
            task.search.offer(where, found, view.margin, ~view.right)
        task.search.queries[where] += -(-victim.images // len(where))  # shared out evenly


def without_rounding(ball: Ball, x: Tensor) -> Tensor:
    """``x`` put inside the ball where float32 rounding alone kept it out; what is farther stays, and is invalid."""
    inside = ball.project(x)
    return torch.where(per_example((inside - x).abs().flatten(1).amax(1) <= ROUNDING, x), inside, x)


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators of torch, numpy and Python seeded, and afterwards as they were."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)
