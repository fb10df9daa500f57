"""The evaluation as a callback: the module is measured, a row is written and logged.

Place it after detectors and defences and before the checkpoints, so that a checkpoint holds the detector that its
epoch's figures speak of.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch

from securegan.data.module import ImageDataModule
from securegan.detectors.base import Detector
from securegan.evaluation.evaluator import Evaluator
from securegan.evaluation.outcome import Outcome
from securegan.evaluation.protocol import Protocol
from securegan.metrics.distributed import all_sum
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
        seconds: dict[str, float] | None = None,
        selection: str = "quality/fid_judge",
    ) -> None:
        """Args:
        write_row: called on rank 0 with the row and the whole outcome.
        seconds: what a continued run has spent before.
        selection: the figure by which checkpoints are chosen, lower is better.
        """
        self.evaluator, self.protocol, self.detectors = evaluator, protocol, detectors
        self.write_row, self.selection = write_row, selection
        self.seconds = {"train": 0.0, "evaluate": 0.0, **(seconds or {})}
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
        keys = list(pl_module.step_figures)
        values = torch.stack([pl_module.step_figures[key].float() for key in keys]).tolist()  # one device read
        figures = dict(zip(keys, values, strict=True))
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
        keys = sorted(self._losses)
        sums = [self._losses[key].double().cpu() for key in keys]
        *totals, batches = all_sum(torch.stack([*sums, torch.tensor(float(self._batches)).double()])).tolist()
        outcome.metrics.update({key: total / max(batches, 1) for key, total in zip(keys, totals, strict=True)})
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
                "interval": outcome.interval,
                "seconds": dict(self.seconds),
            }
            self.write_row(row, outcome)

    def measure(self, module: GenerativeModule, data: ImageDataModule, split: str, *, final: bool) -> Outcome:
        """Measure the module with its detectors as they are; all ranks take part."""
        module.settle(data)
        return self.evaluator.measure(module, split, self.detectors, final=final)
