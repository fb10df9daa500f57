"""steps.csv: no row doubled, none lost but the last ones, whatever kills the run."""

import csv
from pathlib import Path

import pytest
import torch
from pytorch_lightning.utilities import rank_zero_only

from securegan.reports.csv_logger import CSVLogger


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "steps.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def seen(folder: Path) -> list[int]:
    return [int(row["images_seen"]) for row in rows(folder)]


def log(logger: CSVLogger, *points: int, **metrics: float) -> None:
    for images in points:
        logger.log_metrics({"images_seen": images, **(metrics or {"loss": images / 10})})


def test_values_come_back_exactly(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"images_seen": torch.tensor(128.0), "loss": torch.tensor(1 / 3, dtype=torch.float64)})
    logger.log_metrics({"images_seen": 256, "loss": float("nan")})
    logger.finalize("success")
    assert seen(tmp_path) == [128, 256]
    assert float(rows(tmp_path)[0]["loss"]) == 1 / 3
    assert rows(tmp_path)[1]["loss"] == "nan"


def test_buffer_is_written_when_full(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, flush_every=3)
    log(logger, 1, 2)
    logger.save()  # Lightning calls it after every row
    assert not (tmp_path / "steps.csv").exists()
    log(logger, 3, 4)
    assert seen(tmp_path) == [1, 2, 3]


def test_zero_writes_at_the_end_only(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, flush_every=0)
    log(logger, *range(1, 200))
    assert not (tmp_path / "steps.csv").exists()
    logger.finalize("success")
    assert len(rows(tmp_path)) == 199


def test_new_column_keeps_old_rows(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, flush_every=1)
    log(logger, 1, loss=0.5)
    log(logger, 2, loss=0.4, penalty=3.0)
    log(logger, 3, loss=0.3)
    assert [row["penalty"] for row in rows(tmp_path)] == ["", "3.0", ""]
    assert [row["loss"] for row in rows(tmp_path)] == ["0.5", "0.4", "0.3"]


def test_prune_and_resume_doubles_nothing(tmp_path: Path) -> None:
    first = CSVLogger(tmp_path, flush_every=1)
    log(first, 128, 256, 384, 512)
    second = CSVLogger(tmp_path, flush_every=1)
    second.prune(256)
    log(second, 384, 512, 640)
    assert seen(tmp_path) == [128, 256, 384, 512, 640]


def test_prune_counts_rows_still_in_memory_and_missing_files(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path / "new")
    logger.prune(0)
    log(logger, 128, 256)
    logger.prune(128)
    assert seen(tmp_path / "new") == [128]


@pytest.mark.parametrize("torn", ["384,0", "384", "3", "384,0.1,", '384,"'])
def test_line_torn_by_a_kill_is_dropped_by_the_next_writer(tmp_path: Path, torn: str) -> None:
    (tmp_path / "steps.csv").write_text(f"images_seen,loss\n128,0.3\n256,0.2\n{torn}")
    logger = CSVLogger(tmp_path, flush_every=1)
    log(logger, 512)
    assert seen(tmp_path) == [128, 256, 512]


def test_metrics_without_images_seen_carry_the_latest(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    log(logger, 128)
    logger.log_metrics({"lr": 0.1}, step=99)
    logger.finalize("success")
    assert seen(tmp_path) == [128, 128]


def test_only_rank_zero_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = CSVLogger(tmp_path, flush_every=1)
    log(logger, 128)
    logger.prune(0)
    logger.finalize("success")
    assert list(tmp_path.iterdir()) == []
