"""The progress bar of a training: Lightning's rich one, with the time that is left of all epochs beside the epoch's."""

import time
from datetime import timedelta

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar


class Progress(RichProgressBar):
    """Shows ``all epochs left`` from the pace so far, in which the evaluations made so far are included."""

    def __init__(self) -> None:
        super().__init__()
        self._start, self._done_before = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._start, self._done_before = time.monotonic(), trainer.current_epoch

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        if (left := self._left(trainer)) is not None:
            shown["all epochs left"] = str(timedelta(seconds=round(left)))
        return shown

    def _left(self, trainer: pl.Trainer) -> float | None:
        """Seconds; None before there is a pace to go by."""
        batches = trainer.num_training_batches
        within = trainer.fit_loop.epoch_loop.batch_progress.current.ready / max(batches, 1)
        done = trainer.current_epoch - self._done_before + within
        if done <= 0 or trainer.max_epochs is None:
            return None
        ahead = trainer.max_epochs - trainer.current_epoch - within
        return (time.monotonic() - self._start) / done * max(0.0, ahead)
