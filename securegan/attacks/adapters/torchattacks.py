"""Attacks of torchattacks (Kim 2020, arXiv 2010.01950)."""

import inspect
from typing import Any, ClassVar

from torch import Tensor

from securegan.attacks.adapters.base import AdaptedAttack, Victim
from securegan.attacks.threat import Radii
from securegan.errors import ConfigError

NORMS = {"linf": "Linf", "l2": "L2", "l0": "L0"}


class Torchattacks(AdaptedAttack):
    """A class of ``torchattacks``; results are not independent of the batch (see the base's module)."""

    name = "torchattacks"
    package: ClassVar[str] = "torchattacks"

    def __init__(self, radii: Radii | None = None, *, attack: str = "PGD", **of_every_adapter: Any) -> None:
        """Args: as of :class:`AdaptedAttack`."""
        super().__init__(radii, attack=attack, **of_every_adapter)

    @classmethod
    def classes(cls) -> dict[str, type]:
        import torchattacks
        from torchattacks.attack import Attack

        found = {name: kind for name, kind in vars(torchattacks).items() if inspect.isclass(kind)}
        return {
            name: kind
            for name, kind in found.items()
            if issubclass(kind, Attack) and kind.__module__.startswith("torchattacks.attacks.")
        }

    def run(self, victim: Victim, images: Tensor, labels: Tensor, *, eps: float, targeted: bool) -> Tensor:
        attack = self.build(victim, eps=eps, norm=NORMS[self.norm], n_classes=victim.surface.classes)
        if targeted:
            if "targeted" not in attack.supported_mode:
                raise ConfigError(f"attack.targeted={self.targeted} does not suit {self.attack} of torchattacks.")
            attack.set_mode_targeted_by_label(quiet=True)
        found: Tensor = attack(images, labels)
        return found
