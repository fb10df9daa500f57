"""The Mahalanobis detector as a Lightning callback on the network of a model that looks at images."""

from collections.abc import Sequence
from typing import Annotated

import pytorch_lightning as pl
import torch
from annotated_types import Gt, Le, Lt, MinLen
from torch import Tensor

from securegan.attacks.shield import shielded
from securegan.configuration.types import NonNegativeInt, PositiveInt
from securegan.data.module import ImageDataModule
from securegan.detectors.base import Detector
from securegan.detectors.mahalanobis.fitting import fit_layers
from securegan.detectors.mahalanobis.torch_model import LayeredMahalanobis, pool
from securegan.errors import ConfigError
from securegan.models.base import GenerativeModule


class Mahalanobis(Detector):
    """Distances in several intermediate layers of the discriminator or encoder, with a conformal threshold.

    With ``gate=true`` flagged real images are withheld from that network's updates once the detector is fitted.
    """

    name = "mahalanobis"

    def __init__(
        self,
        *,
        shrinkage: Annotated[float, Gt(0), Le(1)] = 0.01,
        false_positive_rate: Annotated[float, Gt(0), Lt(1)] = 0.05,
        layers: Annotated[Sequence[NonNegativeInt], MinLen(1)] | None = None,
        max_fit_images: PositiveInt = 10_000,
        gate: bool = False,
    ) -> None:
        """Args:
        shrinkage: share of the mean variance mixed into each covariance.
        false_positive_rate: of clean real images, at which the threshold is set on the calibration split.
        layers: indices of the feature maps from the image inwards; all where not given.
        max_fit_images: train images at most for the moments.
        """
        super().__init__()
        self.shrinkage, self.false_positive_rate = float(shrinkage), float(false_positive_rate)
        self.layers, self.max_fit_images, self.gate = layers, max_fit_images, gate
        self._model: LayeredMahalanobis | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._model is not None:
            return
        assert isinstance(pl_module, GenerativeModule)
        self.attach(pl_module)

    def attach(self, module: GenerativeModule) -> None:
        """Register the statistics in ``module``, so that its checkpoints hold them, and the gate if asked for."""
        spec = module.spec
        probe = torch.zeros(1, spec.channels, spec.size, spec.size, device=module.device)
        with shielded(module.victims()), torch.no_grad():
            features = module.features(probe)
        if self.layers is not None and max(self.layers) >= len(features):
            raise ConfigError(
                f"detector.mahalanobis.layers={list(self.layers)} is not allowed: "
                f"this model's network has the layers 0 to {len(features) - 1}."
            )
        dims = [f.shape[1] for f in self._chosen(features)]
        self._model = LayeredMahalanobis(spec.num_classes, dims).to(module.device)
        module.attached[self.name] = self._model
        if self.gate:
            module.ports[module.real_player].gate.append(
                lambda images, labels: (
                    self.scores(module, images) <= self.threshold
                    if self.fitted
                    else torch.ones(len(images), dtype=torch.bool, device=images.device)
                )
            )

    def _chosen(self, features: Sequence[Tensor]) -> list[Tensor]:
        return list(features) if self.layers is None else [features[index] for index in self.layers]

    @property
    def model(self) -> LayeredMahalanobis:
        """The statistics; raises RuntimeError before ``setup``."""
        if self._model is None:
            raise RuntimeError("the detector is attached in setup")
        return self._model

    @property
    def fitted(self) -> bool:
        return bool(self.model.fitted)

    @property
    def threshold(self) -> float:
        return float(self.model.threshold)

    def _features(self, module: GenerativeModule, images: Tensor) -> list[Tensor]:
        with shielded(module.victims()), torch.no_grad():
            return self._chosen(module.features(images))

    def fit(self, module: GenerativeModule, data: ImageDataModule) -> None:
        fit_layers(
            self.model,
            lambda images: self._features(module, images),
            data,
            device=module.device,
            shrinkage=self.shrinkage,
            false_positive_rate=self.false_positive_rate,
            max_images=self.max_fit_images,
        )

    def scores(self, module: GenerativeModule, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model(pool(self._features(module, images)))

    def scores_of_features(self, features: Sequence[Tensor]) -> Tensor:
        return self.model(pool(self._chosen(features)))
