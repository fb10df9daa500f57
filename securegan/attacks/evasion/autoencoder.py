"""What the attacks on autoencoders share: images moved until an objective of the literature is as high as it gets.

x_{t+1} = P(x_t + alpha * steepest(grad v(x_t))), P the projection onto the ball and [0, 1]. Unlike the attacks on a
decision they end at the iterate with the highest objective, wherever the decision was lost on the way: what they are
judged by (the target's class, the area under the distortion curve) asks how far the objective was driven.
"""

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from securegan.attacks.engine import FixedStep, Search, ascend, step_size
from securegan.attacks.evasion.base import EvasionAttack, Task
from securegan.attacks.reconstruction import ReconstructionSurface
from securegan.attacks.surfaces import Assessment, Objective, Surface
from securegan.attacks.threat import Norm, Radii, ThreatModel
from securegan.configuration.types import PositiveInt, Radius
from securegan.errors import ConfigError


class AutoencoderAttack(EvasionAttack):
    """Ascent of ``objective``; success is the surface's own criterion at the end."""

    spaces: ClassVar[tuple[Literal["pixels", "latent"], ...]] = ("pixels",)
    objective: Objective
    norm: Norm

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        norm: Norm = "linf",
        steps: PositiveInt = 50,
        alpha: Radius | None = None,
        restarts: PositiveInt = 1,
        **of_every_attack: Any,
    ) -> None:
        """Args:
        alpha: step size; that of :func:`step_size` where it is not given.
        restarts: random starts.
        of_every_attack: as of :class:`EvasionAttack`.

        Raises:
            ConfigError: a target class, or ``adaptive``: no objective of these says when the detector's turn has come.
        """
        super().__init__(radii, norm, **of_every_attack)
        self.steps, self.alpha, self.restarts = steps, alpha, restarts
        if self.targeted is not None:
            raise ConfigError(f"attack.targeted={self.targeted} is not possible: {self.name} aims at no class.")
        if self.adaptive:
            raise ConfigError(
                f"attack.adaptive=true is not possible with {self.name}, which pursues no decision: attack=pgd attacks "
                "reconstructions and the detector together."
            )

    def threat(self, surface: Surface) -> ThreatModel:
        return replace(super().threat(surface), goal="targeted" if self.towards_image else "untargeted")

    def unsuited(self, space: Literal["pixels", "latent"], classes: int) -> str | None:
        if space == "pixels" and classes:
            return f"{self.name} attacks what an autoencoder gives back, not a decision among classes"
        return super().unsuited(space, classes)

    def search(self, task: Task) -> None:
        if not isinstance(task.surface, ReconstructionSurface):
            raise TypeError(f"{self.name} attacks reconstructions, not the surface {task.surface.name}")
        aimed, where = _ByObjective(task.surface), task.open(early_drop=False)
        with torch.no_grad():
            found = Search.begin(task.inputs, aimed.assess(task.inputs, task.reference, self.objective))
        alpha = step_size(self.eps, self.steps, self.alpha)
        for restart in range(self.restarts):
            ascend(
                aimed,
                FixedStep(task.ball[where], self.norm, alpha),
                self._start(task, where, restart),
                task.reference[where],
                found,
                where,
                objective=self.objective,
                steps=self.steps,
                early_drop=False,
            )
        with torch.no_grad():
            after = task.surface.assess(found.best[where], task.reference[where], "margin")
        search = task.search
        search.best[where], search.margin[where], search.fooled[where] = found.best[where], after.margin, ~after.right
        search.queries[where] += found.queries[where]

    def _start(self, task: Task, where: Tensor, restart: int) -> Tensor:
        """The end of an earlier search first, where there is one; then points near the input at random."""
        ball = task.ball[where]
        if task.start is not None and restart == 0:
            return ball.project(task.start[where])
        start = ball.start(task.noise(where, self.norm, self.objective, restart))
        return ball.project(task.inputs[where].lerp(start, task.surface.start_share))


class _ByObjective(Surface):
    """A reconstruction surface on which nothing is ever won, so that the highest objective is kept."""

    def __init__(self, inner: ReconstructionSurface) -> None:
        super().__init__(inner.victims)
        self.inner, self.name, self.space, self.objectives = inner, inner.name, inner.space, inner.objectives

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        value = self.inner.value(x, reference, objective)
        return Assessment(value, value.detach(), torch.ones(len(x), dtype=torch.bool, device=x.device))

    def words(self, x: Tensor, reference: Tensor) -> list[str]:
        return self.inner.words(x, reference)
