"""Attacks of Foolbox (Rauber et al. 2020, doi 10.21105/joss.02607)."""

import inspect
from contextlib import suppress
from typing import Any, ClassVar

from torch import Tensor

from securegan.attacks.adapters.base import ORDERS, AdaptedAttack, Victim
from securegan.attacks.threat import Radii
from securegan.errors import ConfigError


class Foolbox(AdaptedAttack):
    """A class of ``foolbox.attacks``; results are not independent of the batch (see the base's module)."""

    name = "foolbox"
    package: ClassVar[str] = "foolbox"

    def __init__(self, radii: Radii | None = None, *, attack: str = "LinfPGD", **of_every_adapter: Any) -> None:
        """Args: as of :class:`AdaptedAttack`.

        Raises:
        ConfigError: as of :class:`AdaptedAttack`, or the class measures another norm than ``norm``.
        """
        super().__init__(radii, attack=attack, **of_every_adapter)
        with suppress(ValueError):  # some classes measure no norm of their own
            order = getattr(self.build().distance, "p", ORDERS[self.norm])
            if order != ORDERS[self.norm]:
                raise ConfigError(
                    f"attack.norm={self.norm} does not suit {attack} of foolbox, which measures L{order:g}."
                )

    @classmethod
    def classes(cls) -> dict[str, type]:
        import foolbox

        found = {name: kind for name, kind in vars(foolbox.attacks).items() if inspect.isclass(kind)}
        kinds = (foolbox.attacks.base.FixedEpsilonAttack, foolbox.attacks.base.MinimizationAttack)
        return {name: kind for name, kind in found.items() if issubclass(kind, kinds) and not inspect.isabstract(kind)}

    @property
    def minimal(self) -> bool:  # type: ignore[override]
        import foolbox

        return issubclass(self.classes()[self.attack], foolbox.attacks.base.MinimizationAttack)

    def run(self, victim: Victim, images: Tensor, labels: Tensor, *, eps: float, targeted: bool) -> Tensor:
        import foolbox

        model = foolbox.PyTorchModel(victim, bounds=(0, 1), device=images.device)
        criteria = foolbox.criteria
        criterion = criteria.TargetedMisclassification(labels) if targeted else criteria.Misclassification(labels)
        raw: Tensor
        raw, _, _ = self.build()(model, images, criterion, epsilons=None if self.minimal else eps)
        return raw
