"""The evaluation as a callback: detectors are refitted, the module is measured, a row is written and logged.

Place it after detectors and defences and before the checkpoints, so that a checkpoint holds the detector that its
epoch's figures speak of.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from securegan.data.module import ImageDataModule
from securegan.detectors.base import Detector
from securegan.evaluation.evaluator import Evaluator
from securegan.evaluation.outcome import Outcome
from securegan.evaluation.protocol import Protocol
from securegan.metrics.distributed import all_sum, world
from securegan.models.base import GenerativeModule

Row = dict[str, Any]


class Evaluation(pl.Callback):
    """Every ``protocol.every_n_epochs`` epochs: one row of figures on the validation split."""

    def __init__(
        self,
        evaluator: Evaluator,
        protocol: Protocol,
        detectors: Sequence[Detector],
        write_row: Callable[[Row, Outcome], None],
        selection: str = "quality/fid_judge",
    ) -> None:
        """Args:
        write_row: called on rank 0 with the row and the whole outcome.
        selection: the figure by which checkpoints are chosen, lower is better.
        """
        self.evaluator, self.protocol, self.detectors = evaluator, protocol, detectors
        self.write_row, self.selection = write_row, selection
        self.seconds = {"train": 0.0, "evaluate": 0.0}
        self.latest: float | None = None
        self._losses: dict[str, torch.Tensor] = {}
        self._batches = 0
        self._epoch_start = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._losses, self._batches, self._epoch_start = {}, 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, GenerativeModule)
        for key, value in pl_module.step_figures.items():
            self._losses[key] = self._losses.get(key, torch.zeros_like(value)) + value
        self._batches += 1
        figures = {key: float(value) for key, value in pl_module.step_figures.items()}
        pl_module.check_finite(figures)
        for logger in trainer.loggers:
            logger.log_metrics({**figures, "images_seen": pl_module.seen}, step=pl_module.seen)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, GenerativeModule)
        trained = time.monotonic() - self._epoch_start
        self.seconds["train"] += trained
        if not self.protocol.due(trainer.current_epoch, (trainer.max_epochs or 0) - 1):
            return
        start = time.monotonic()
        data = trainer.datamodule  # type: ignore[attr-defined]
        outcome = self.measure(pl_module, data, "validate", final=False)
        for key, total in self._losses.items():
            summed = all_sum(torch.stack([total.double().cpu(), torch.tensor(float(self._batches)).double()]))
            outcome.metrics[key] = float(summed[0] / summed[1].clamp_min(1))
        images = self._batches * data.batch_size
        outcome.metrics["train/images_per_second"] = images / max(trained, 1e-9)
        self.latest = outcome.metrics.get(self.selection)
        self.seconds["evaluate"] += time.monotonic() - start
        if trainer.is_global_zero:
            row = {
                "epoch": trainer.current_epoch + 1,
                "images_seen": pl_module.seen,
                "split": "validate",
                "metrics": outcome.metrics,
                "n": outcome.n,
            }
            self.write_row(row, outcome)

    def measure(self, module: GenerativeModule, data: ImageDataModule, split: str, *, final: bool) -> Outcome:
        """Refit the detectors on the module as it is (unless ``final``: its checkpoint holds them), then measure."""
        share_buffers(module)
        if not final:
            for detector in self.detectors:
                detector.fit(module, data)
        return self.evaluator.measure(module, split, self.detectors, final=final)


def share_buffers(module: GenerativeModule) -> None:
    """Give every rank the buffers of rank 0: batch-norm statistics differ, and all must measure the same network."""
    if world()[1] > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)
