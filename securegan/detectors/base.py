"""What every detector offers to defences, to the evaluation and to a release."""

from abc import abstractmethod

import pytorch_lightning as pl
from torch import Tensor

from securegan.data.module import ImageDataModule
from securegan.models.base import GenerativeModule
from securegan.models.networks.discriminator import DiscriminatorOutput


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
        pl_module.share_buffers()
        self.fit(pl_module, trainer.datamodule)  # type: ignore[attr-defined]

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
    def scores_of_output(self, output: DiscriminatorOutput) -> Tensor:
        """The same, differentiable, from a discriminator's output."""
