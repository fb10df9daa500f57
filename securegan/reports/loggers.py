"""The loggers of a run together, and what each is told beside Lightning's own metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from securegan.configuration.allowlist import build
from securegan.evaluation.callback import Row
from securegan.evaluation.outcome import Outcome
from securegan.reports.csv_logger import CSVLogger
from securegan.reports.wandb_logger import WandbLogger
from securegan.runs.sampling import as_grid


class Loggers:
    """Those that a configuration chooses, each writing into the run folder."""

    def __init__(self, config: DictConfig, folder: Path) -> None:
        plain = OmegaConf.to_container(config, resolve=True)
        of_wandb = plain, str(config.name or folder.name)
        self.each: list[Logger] = [
            build(node, folder, *(of_wandb if name == "wandb" else ())) for name, node in config.logger.items()
        ]
        self._tables = [logger for logger in self.each if isinstance(logger, CSVLogger)]
        self._guests = [logger for logger in self.each if isinstance(logger, WandbLogger)]

    def flush(self) -> None:
        """Write out what is still held."""
        for table in self._tables:
            table.flush()

    def prune(self, images: int) -> None:
        """Drop the steps after ``images`` images: they will be made again."""
        for table in self._tables:
            table.prune(images)

    def log_epoch(self, row: Row, outcome: Outcome) -> None:
        """An evaluation's row, samples and distributions."""
        for guest in self._guests:
            guest.log_epoch(row)
            guest.log_images("samples", as_grid(torch.from_numpy(outcome.examples["samples"])), row["images_seen"])
            for key, values in outcome.arrays.items():
                if values.ndim:
                    guest.log_histogram(key, values, row["images_seen"])

    def log_release(self, summary: Mapping[str, Any]) -> None:
        """What was released and how it verified."""
        for guest in self._guests:
            guest.log_release(summary)

    def end(self, status: str) -> None:
        """Close all of them; ``status``: success or failed."""
        for logger in self.each:
            logger.finalize(status)
        for guest in self._guests:
            guest.finish()  # inside the job: a sweep's next job must not write into this run
