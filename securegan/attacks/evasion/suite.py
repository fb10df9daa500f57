"""The worst case per example over several attacks, as AutoAttack does (Croce & Hein 2020, arXiv 2003.01690, section 5).

Each attack sees only the examples that survived those before it; an example is lost if any attack wins it. By default
APGD on cross-entropy and on the difference of logits ratio, APGD towards each of the other classes, and Square, which
sees scores alone and so does not depend on gradients.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from securegan.attacks.evasion.apgd import APGD
from securegan.attacks.evasion.base import EvasionAttack, Task
from securegan.attacks.evasion.cw import CarliniWagner
from securegan.attacks.evasion.deepfool import DeepFool
from securegan.attacks.evasion.fgsm import FGSM
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.evasion.square import Square
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import Surface
from securegan.attacks.threat import Norm, Radii
from securegan.configuration.types import PositiveInt
from securegan.errors import ConfigError

Member = Literal["fgsm", "pgd", "apgd_ce", "apgd_dlr", "apgd_margin", "apgd_targeted", "square", "deepfool", "cw"]


class Suite(EvasionAttack):
    """A list of attacks within one radius; one that is not defined on a surface is left out there."""

    name = "suite"
    norm: Norm

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        norm: Norm = "linf",
        attacks: Annotated[Sequence[Member], MinLen(1)] = ("apgd_ce", "apgd_dlr", "apgd_targeted", "square"),
        steps: PositiveInt = 100,
        restarts: PositiveInt = 2,
        target_classes: PositiveInt = 9,
        queries: PositiveInt = 5000,
        **of_every_attack: Any,
    ) -> None:
        """Args:
        attacks: in the order in which they are run.
        steps: of each APGD and PGD.
        restarts: random starts of each attack that has some.
        target_classes: ``apgd_targeted`` tries so many of the most probable wrong classes.
        queries: of ``square``.
        of_every_attack: as of :class:`EvasionAttack`.

        Raises:
            ConfigError: ``cw``, which works in L2 alone, under another norm.
        """
        if norm != "l2" and "cw" in attacks:
            raise ConfigError("attack.attacks=[cw] is not possible in L-inf: C&W works in L2, with attack.norm=l2.")
        super().__init__(radii, norm, **of_every_attack)
        self.attacks, self.steps, self.restarts = tuple(attacks), steps, restarts
        self.target_classes, self.queries = target_classes, queries
        self.supplies = Supplies()

    def prepare(self, surface: Surface, supplies: Supplies) -> None:
        self.supplies = supplies

    def members(self) -> dict[Member, EvasionAttack]:
        """The attacks of the list, within the suite's radius; a target is given to them by the surface."""
        return {name: self._member(name) for name in self.attacks}

    def _member(self, name: Member) -> EvasionAttack:
        within: dict[str, Any] = {"norm": self.norm, "eps": self.eps, "latent_eps": self.latent_eps}
        searched = {**within, "steps": self.steps, "restarts": self.restarts}
        match name:
            case "fgsm":
                return FGSM(**within)
            case "pgd":
                return PGD(**searched)
            case "apgd_targeted":
                return APGD(**searched, objectives=(), target_classes=self.target_classes)
            case "apgd_ce":
                return APGD(**searched, objectives=("ce",))
            case "apgd_dlr":
                return APGD(**searched, objectives=("dlr",))
            case "apgd_margin":
                return APGD(**searched, objectives=("margin",))
            case "square":
                return Square(**within, queries=self.queries, restarts=self.restarts)
            case "deepfool":
                return DeepFool(**within)
            case "cw":
                return CarliniWagner(eps=self.eps, latent_eps=self.latent_eps)

    def search(self, task: Task) -> None:
        for name, member in self.members().items():
            where = task.open()
            if not len(where):
                return
            if member.unsuited(task.surface.space.name, task.surface.classes) is not None:
                continue
            if name == "apgd_targeted" and self.targeted is not None:
                continue  # every other one aims at the target already
            member.prepare(task.surface, self.supplies)
            result = self.supplies.memory.run(
                member,
                task.surface,
                task.inputs[where],
                task.reference[where],
                purpose=(*task.purpose, name),
                keys=task.keys_of(where),
                start=None if task.start is None else task.start[where],
            )
            task.search.queries[where] += result.queries
            moved = result.success | ~task.search.fooled[where]
            task.search.best[where[moved]] = result.adversarial[moved]
            task.search.fooled[where] |= result.success
