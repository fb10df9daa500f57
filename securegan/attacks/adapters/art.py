"""Attacks of the Adversarial Robustness Toolbox (Nicolae et al. 2018, arXiv 1807.01069), through numpy."""

import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from securegan.attacks.adapters.base import ORDERS, AdaptedAttack, Victim
from securegan.attacks.threat import Radii
from securegan.errors import ConfigError


class ART(AdaptedAttack):
    """A class of ``art.attacks.evasion``; results are not independent of the batch (see the base's module)."""

    name = "art"
    package: ClassVar[str] = "art"

    def __init__(
        self, radii: Radii | None = None, *, attack: str = "ProjectedGradientDescent", **of_every_adapter: Any
    ) -> None:
        """Args: as of :class:`AdaptedAttack`."""
        super().__init__(radii, attack=attack, **of_every_adapter)

    @classmethod
    def classes(cls) -> dict[str, type]:
        from art.attacks import evasion
        from art.attacks.attack import EvasionAttack as Foreign

        found = {name: kind for name, kind in vars(evasion).items() if inspect.isclass(kind)}
        return {name: kind for name, kind in found.items() if issubclass(kind, Foreign) and kind is not Foreign}

    def run(self, victim: Victim, images: Tensor, labels: Tensor, *, eps: float, targeted: bool) -> Tensor:
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            victim,
            nn.CrossEntropyLoss(),
            tuple(images.shape[1:]),
            victim.surface.classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if images.is_cuda else "cpu",
        )
        offered = {"eps": eps, "norm": ORDERS[self.norm], "batch_size": len(images), "verbose": False}
        attack = self.build(classifier, **offered, targeted=targeted)
        if targeted and not attack.targeted:
            raise ConfigError(f"attack.targeted={self.targeted} does not suit {self.attack} of art.")
        found = attack.generate(images.cpu().numpy(), labels.cpu().numpy())
        return torch.as_tensor(found, device=images.device)
