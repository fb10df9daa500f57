"""What every detector offers to defences, to the evaluation and to a release."""

from abc import abstractmethod
from collections.abc import Sequence

import pytorch_lightning as pl
from torch import Tensor

from securegan.data.module import ImageDataModule
from securegan.models.base import GenerativeModule


class Detector(pl.Callback):
    """Scores images (higher is more anomalous); its state lives in the module, so one checkpoint holds both."""

    name: str
    false_positive_rate: float

    @abstractmethod
    def attach(self, module: GenerativeModule) -> None:
        """Register the detector's statistics in ``module``, and its gate if it has one; once."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refit after every epoch, evaluated or not: what the generator trains against must not hang on measuring."""
        assert isinstance(pl_module, GenerativeModule)
        data = trainer.datamodule  # type: ignore[attr-defined]
        pl_module.settle(data)
        self.fit(pl_module, data)

    @property
    @abstractmethod
    def fitted(self) -> bool:
        """Whether :meth:`fit` has run, here or before the checkpoint was saved."""

    @property
    @abstractmethod
    def threshold(self) -> float:
        """Scores above it are flagged."""

    @abstractmethod
    def fit(self, module: GenerativeModule, data: ImageDataModule) -> None:
        """Fit on the train split, set the threshold on the calibration split; all ranks take part."""

    @abstractmethod
    def scores(self, module: GenerativeModule, images: Tensor) -> Tensor:
        """``(N,)`` float64 scores of ``images (N, C, H, W)``; leaves no trace in the module."""

    @abstractmethod
    def scores_of_features(self, features: Sequence[Tensor]) -> Tensor:
        """The same, differentiable, from what :meth:`GenerativeModule.features` gave."""
