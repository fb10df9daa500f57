"""How far a training is: a bar in a terminal, elsewhere a line an evaluation; both with the time that is left."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar

from securegan.reports.glossary import SPACE, written
from securegan.reports.results import ATTACK_SUCCESS

REFRESHES = 4  # a second: each draws the bar anew in the training's process, and Lightning's default is 100


def progress(rows: Callable[[], Sequence[dict[str, Any]]]) -> ProgressBar:
    """The bar where somebody watches, else the lines; ``rows`` gives those evaluated so far."""
    return Progress() if sys.stdout.isatty() else Lines(rows)


class Pace:
    """Seconds left of all epochs from the pace so far, in which the evaluations made so far are included."""

    def __init__(self, trainer: pl.Trainer) -> None:
        self._start, self._done_before = time.monotonic(), trainer.current_epoch

    def left(self, trainer: pl.Trainer) -> timedelta | None:
        """None before there is a pace to go by."""
        batches = trainer.num_training_batches
        within = trainer.fit_loop.epoch_loop.batch_progress.current.ready / max(batches, 1)
        done = trainer.current_epoch - self._done_before + within
        if done <= 0 or trainer.max_epochs is None:
            return None
        ahead = trainer.max_epochs - trainer.current_epoch - within
        return timedelta(seconds=round((time.monotonic() - self._start) / done * max(0.0, ahead)))


class Progress(RichProgressBar):
    """Lightning's rich bar, with ``all epochs left`` beside the epoch's own time, and epochs counted from 1."""

    _pace: Pace | None = None

    def __init__(self) -> None:
        super().__init__(refresh_rate=REFRESHES)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._pace = Pace(trainer)

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        if self._pace is not None and (left := self._pace.left(trainer)) is not None:
            shown["all epochs left"] = str(left)
        return shown

    def _get_train_description(self, current_epoch: int) -> str:  # Lightning's, which counts from 0
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"


class Lines(ProgressBar):
    """``epoch 4/20: FID 12.3, attack success 64.2 % (label), 0:05:10 left`` after every evaluation."""

    def __init__(self, rows: Callable[[], Sequence[dict[str, Any]]]) -> None:
        super().__init__()
        self._rows, self._enabled = rows, True
        self._pace: Pace | None = None

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._pace = Pace(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rows, epoch = self._rows(), trainer.current_epoch + 1
        if not self._enabled or not rows or rows[-1]["epoch"] != epoch:
            return
        said = _figures(rows[-1]["metrics"])
        if self._pace is not None and (left := self._pace.left(trainer)) is not None:
            said.append(f"{left} left")
        sys.stdout.write(f"epoch {epoch}/{trainer.max_epochs}: {', '.join(said)}\n")
        sys.stdout.flush()  # a file or a pipe would keep it until the end


def _figures(metrics: dict[str, float | None]) -> list[str]:
    """FID in the judge's features and attack success on the first surface, as far as they are numbers."""
    known = {key: value for key, value in metrics.items() if value is not None and math.isfinite(value)}
    said = [f"FID {written(known['quality/fid_judge'])}"] if "quality/fid_judge" in known else []
    if key := next((key for key in known if key.startswith(ATTACK_SUCCESS)), ""):
        share = written(known[key], "rate").replace(SPACE, " ")  # for logs that hold nothing but ASCII
        said.append(f"attack success {share} ({key.removeprefix(ATTACK_SUCCESS)})")
    return said
