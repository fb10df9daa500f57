"""The Lightning Trainer of a run. The constructor is the ``trainer`` config group."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy, Strategy

from securegan.configuration.types import PositiveInt
from securegan.errors import ConfigError

Precision = Literal["32-true", "bf16-mixed"]


def build_trainer(
    folder: Path,
    callbacks: Sequence[pl.Callback],
    loggers: Sequence[Logger],
    *,
    max_epochs: PositiveInt = 20,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    devices: PositiveInt = 1,
    strategy: Literal["auto", "ddp"] = "auto",
    precision: Precision = "32-true",
    threads: PositiveInt | None = None,
) -> pl.Trainer:
    """A trainer for manual optimisation, without what this project does itself (validation loop, checkpoints).

    Args:
        folder: the run folder.
        callbacks: in the order in which they act.
        loggers: none is allowed.
        max_epochs: passes over the training images.
        accelerator: ``auto`` takes a GPU where there is one.
        strategy: ``auto`` is DDP for several devices.
        devices: processes of ``strategy=ddp``; the data set's batch is divided among them.
        precision: ``bf16-mixed`` runs training steps under autocast; attacks and figures stay float32. It pays on GPUs
            and on CPUs with bfloat16 units; on other CPUs it is many times slower.
        threads: of torch on a CPU, per process; cores divided by devices where not given.
    Raises ConfigError for devices that are not there.
    """
    if devices > 1 and strategy == "auto":
        strategy = "ddp"
    if accelerator == "gpu" and torch.cuda.device_count() < devices:
        raise ConfigError(
            f"trainer.accelerator=gpu with trainer.devices={devices} is not possible here: "
            f"{torch.cuda.device_count()} GPUs were found."
        )
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if on_gpu and torch.cuda.device_count() < devices:
        raise ConfigError(
            f"trainer.devices={devices} is not possible here: {torch.cuda.device_count()} GPUs were found; "
            "give trainer.accelerator=cpu for several processes on the CPU."
        )
    if not on_gpu:
        torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // devices))
    chosen: str | Strategy = strategy
    if strategy == "ddp":
        # Either player's update leaves the other's weights without gradients.
        chosen = DDPStrategy(find_unused_parameters=True)
    return pl.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=devices,
        strategy=chosen,
        precision=precision,
        max_epochs=max_epochs,
        callbacks=list(callbacks),
        logger=list(loggers) or False,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        sync_batchnorm=on_gpu and devices > 1,
        log_every_n_steps=1,
        benchmark=False,
        deterministic="warn" if on_gpu else False,
    )
