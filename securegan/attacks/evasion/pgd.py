"""Projected gradient descent (Madry et al. 2018, arXiv 1706.06083, section 2.1), in L-inf and L2, pixels and latents.

x_{t+1} = P(x_t + alpha * steepest(grad L(x_t))), P the projection onto the ball and the space's bounds; the loss is
cross-entropy, the logit margin (Carlini & Wagner 2017) or the difference of logits ratio (Croce & Hein 2020), each from
several random starts; an example is lost if any iterate of any start and objective is judged wrong.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MinLen
from torch import Tensor

from securegan.attacks.engine import FixedStep, ascend, step_size
from securegan.attacks.evasion.base import EvasionAttack, Task, objectives_on
from securegan.attacks.surfaces import OF_AUTOENCODERS, TOWARDS_IMAGE, Objective
from securegan.attacks.threat import Norm, Radii
from securegan.configuration.types import PositiveInt, Radius


class PGD(EvasionAttack):
    """PGD with restarts over objectives, per-example best and early drop of fooled examples."""

    name = "pgd"
    norm: Norm

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        norm: Norm = "linf",
        steps: PositiveInt = 20,
        alpha: Radius | None = None,
        momentum: Annotated[float, Ge(0), Le(1)] = 0.0,
        objectives: Annotated[Sequence[Objective], MinLen(1)] = ("ce", "margin"),
        random_start: bool = True,
        restarts: PositiveInt = 5,
        early_drop: bool = True,
        gradients: Literal["float32", "bfloat16"] = "float32",
        **of_every_attack: Any,
    ) -> None:
        """Args:
        alpha: step size in the space's unit; that of :func:`step_size` where it is not given.
        momentum: of the gradients' decaying sum (Dong et al. 2018, who take 1).
        restarts: random starts of each objective.
        early_drop: search no longer for examples that are fooled.
        gradients: their precision; bfloat16 saves half the time where the processor has it. Judged is in float32.
        of_every_attack: as of :class:`EvasionAttack`.
        """
        super().__init__(radii, norm, **of_every_attack)
        self.steps, self.alpha, self.momentum = steps, alpha, momentum
        self.objectives = tuple(objectives)
        self.random_start, self.restarts, self.early_drop = random_start, restarts if random_start else 1, early_drop
        self.gradients = gradients

    def unsuited(self, space: Literal["pixels", "latent"], classes: int) -> str | None:
        if (space == "latent" or classes) and all(objective in OF_AUTOENCODERS for objective in self.objectives):
            return f"the objectives {list(self.objectives)} are of an autoencoder's reconstructions"
        return super().unsuited(space, classes)

    @property
    def towards_image(self) -> bool:
        return any(objective in TOWARDS_IMAGE for objective in self.objectives)

    def search(self, task: Task) -> None:
        for restart in range(self.restarts):
            for objective in objectives_on(task.surface, self.objectives):
                where = task.open(early_drop=self.early_drop)
                if not len(where):
                    return
                ascend(
                    task.surface,
                    FixedStep(task.ball[where], self.norm, self._alpha(self._eps(task.surface)), self.momentum),
                    self._start(task, where, objective, restart),
                    task.reference[where],
                    task.search,
                    where,
                    objective=objective,
                    steps=self.steps,
                    early_drop=self.early_drop,
                    halved=self.gradients == "bfloat16",
                )

    def _start(self, task: Task, where: Tensor, objective: Objective, restart: int) -> Tensor:
        """The end of an earlier search first, where there is one; then random points of the ball."""
        if task.start is not None and restart == 0:
            return task.ball[where].project(task.start[where])
        if not (self.random_start or task.surface.flat_at_input):
            return task.inputs[where]
        return task.random_start(where, self.norm, objective, restart)

    def _alpha(self, eps: float) -> float:
        return step_size(eps, self.steps, self.alpha)
