"""What is said while a run trains."""

import io
import sys
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from securegan.reports import progress as module
from securegan.reports.progress import Lines, Progress, progress


class Small(pl.LightningModule):
    """Two batches an epoch."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> None: ...

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.zeros(2, 1))  # type: ignore[arg-type]


class Evaluated(pl.Callback):
    """A row every second epoch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch % 2:
            figures = {"attack_success_label": 0.5, "attack_success_latent": 0.9, "clean_accuracy_label": 0.8}
            metrics = {"quality/fid_judge": 12.34, **{f"robustness/{key}": value for key, value in figures.items()}}
            self.rows.append({"epoch": trainer.current_epoch + 1, "metrics": metrics})


def fit(*callbacks: pl.Callback) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    pl.Trainer(accelerator="cpu", max_epochs=4, callbacks=list(callbacks), **quiet).fit(Small())  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_without_a_terminal_there_is_a_line_an_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    evaluated = Evaluated()
    bar = progress(lambda: evaluated.rows)
    assert isinstance(bar, Lines)
    fit(evaluated, bar)
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line]
    assert all(line.isascii() for line in lines)
    assert [line.partition(", 0:")[0] for line in lines] == [
        f"epoch {epoch}/4: FID 12.3, attack success 50.0 % (label)" for epoch in (2, 4)
    ]
    assert lines[-1].endswith("0:00:00 left")


@pytest.mark.filterwarnings("ignore")
def test_only_the_main_process_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    evaluated = Evaluated()
    lines = Lines(lambda: evaluated.rows)
    lines.disable()  # Lightning does so on the other ranks
    fit(evaluated, lines)
    assert "epoch" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")
def test_the_bar_counts_epochs_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    bar = module.progress(list)
    assert isinstance(bar, Progress)
    monkeypatch.setattr("rich._console", None)  # the bar changes the one that all share
    bar._console_kwargs = {"file": out, "width": 120, "force_terminal": True, "color_system": None}
    fit(bar)
    assert "Epoch 1/4" in out.getvalue() and "Epoch 4/4" in out.getvalue() and "Epoch 0" not in out.getvalue()
