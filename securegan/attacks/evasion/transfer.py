"""Transfer from a surrogate: images made against another network's decision and shown to the victim.

After Papernot et al. 2016 (arXiv 1605.07277), with momentum as Dong et al. 2018 (arXiv 1710.06081). Projected gradient
descent ascends the surrogate alone; of each restart the point of the highest surrogate margin is shown to the victim.
"""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from securegan.attacks.engine import Search, look
from securegan.attacks.evasion.base import EvasionAttack, Task, objectives_on
from securegan.attacks.evasion.black_box import ask
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.shield import shielded
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import Surface, SurfaceName
from securegan.attacks.targets import TowardsClass
from securegan.attacks.threat import Knowledge, Norm, Radii
from securegan.configuration.types import PositiveInt, Radius
from securegan.judges.judge import weights_digest


class Transfer(EvasionAttack):
    """PGD on a surrogate; the victim answers once for each restart, and only these answers count as queries.

    Attributes:
        surrogate_surface: the surrogate's decision, among the victim's classes; supplied by whoever knows the networks.
    """

    name = "transfer"
    knowledge: ClassVar[Knowledge] = "transfer"
    spaces: ClassVar[tuple[Literal["pixels", "latent"], ...]] = ("pixels",)
    only_on: ClassVar[tuple[SurfaceName, ...] | None] = ("label",)
    needs_classes: ClassVar[bool] = True
    norm: Norm

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        norm: Norm = "linf",
        surrogate: str | None = None,
        steps: PositiveInt = 20,
        alpha: Radius | None = None,
        momentum: Annotated[float, Ge(0), Le(1)] = 1.0,
        objective: Literal["ce", "margin", "dlr"] = "ce",
        restarts: PositiveInt = 5,
        **of_every_attack: Any,
    ) -> None:
        """Args:
        surrogate: the folder of a run on the same classes, whose class head it is; the data set's independent judge
            where it is not given.
        alpha: step size; as of :class:`PGD` where it is not given.
        momentum: of the gradients' decaying sum.
        objective: that of the surrogate.
        restarts: random starts.
        of_every_attack: as of :class:`EvasionAttack`.
        """
        super().__init__(radii, norm, **of_every_attack)
        self.surrogate, self.objective, self.restarts = surrogate, objective, restarts
        self.steps, self.alpha, self.momentum = steps, alpha, momentum
        self.surrogate_surface: Surface | None = None

    def prepare(self, surface: Surface, supplies: Supplies) -> None:
        self.surrogate_surface = supplies.surrogate or self.surrogate_surface

    def settings(self) -> dict[str, bool | int | float | str | list[str]]:
        """With a digest of the weights against which the images are made."""
        if self.surrogate_surface is None:
            return super().settings()
        digests = [weights_digest(network)[:16] for network in self.surrogate_surface.victims]
        return {**super().settings(), "surrogate_weights": "+".join(digests)}

    def search(self, task: Task) -> None:
        source, where = self._source(task.surface), task.open()
        with shielded(source.victims):
            for restart in range(self.restarts):
                x = self._climbed(task, source, where, restart)
                task.search.offer(where, x, *ask(task.surface, x, task.reference[where]))

    def _source(self, victim: Surface) -> Surface:
        """The surrogate's decision, towards the target classes where the victim's is."""
        source = self.surrogate_surface
        if source is None or source.classes != victim.classes:
            raise ValueError(f"transfer needs a surrogate_surface that decides among {victim.classes} classes")
        return TowardsClass(source) if isinstance(victim, TowardsClass) else source

    def _climbed(self, task: Task, source: Surface, where: Tensor, restart: int) -> Tensor:
        """``(n, ...)``: of each example ``where`` the point of the highest surrogate margin of one search."""
        (objective,) = objectives_on(source, (self.objective,))
        inputs, reference = task.inputs[where], task.reference[where]
        clean, _ = look(source, inputs, reference, objective, gradient=False)
        alone = replace(
            task,
            surface=source,
            ball=task.ball[where],
            inputs=inputs,
            reference=reference,
            clean_right=torch.ones_like(clean.right),
            search=Search.begin(inputs, clean),
            purpose=(*task.purpose, "surrogate", restart),
            keys=task.keys_of(where),
            start=None,  # an earlier search's end was chosen by the victim's margin
        )
        PGD(
            norm=self.norm,
            eps=self.eps,
            steps=self.steps,
            alpha=self.alpha,
            momentum=self.momentum,
            objectives=(objective,),
            restarts=1,
            early_drop=False,
        ).search(alone)
        return alone.search.best
