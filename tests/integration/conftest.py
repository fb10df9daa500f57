"""The whole job on a few digits, in this process or in one of its own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from securegan.configuration.compose import compose_checked
from securegan.experiment import Experiment

SMALL = [
    "data.max_images=400",
    "model.generator_width=8",
    "model.discriminator_width=8",
    "model.class_width=8",
    "metrics.generated=64",
    "metrics.fidelity_references=32",
    "metrics.fidelity_epoch_images=32",
    "metrics.epoch_attack_images=16",
    "metrics.test_attack_images=32",
    "metrics.check_images=16",
    "attack.steps=5",
    "attack.restarts=2",
    "logger=csv",
    "trainer.threads=1",
]
SCHEDULE = {"warmup_epochs": 1, "ramp_epochs": 0, "settle_epochs": 0}
TRAINED = [*SMALL, *(f"defense.adversarial_training.{key}={value}" for key, value in SCHEDULE.items())]


def composed(*overrides: str) -> DictConfig:
    (config,) = compose_checked(overrides)
    return config


def _run_in_process(folder: Path, *overrides: str) -> Experiment:
    """The job as ``run.py`` does it."""
    with Experiment.start(folder, composed(*overrides)) as experiment:
        experiment.fit()
        experiment.test()
        experiment.report()
    return experiment


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of three epochs."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    _run_in_process(folder, *TRAINED, "trainer.max_epochs=3")
    return folder


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``python -m securegan.run`` in an empty folder."""

    def run(*overrides: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "securegan.run", *overrides],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def small_settings() -> list[str]:
    """What ``finished`` was run with, but for the epochs."""
    return list(TRAINED)


@pytest.fixture(scope="session")
def run_in_process() -> Callable[..., Experiment]:
    """``run_in_process(folder, *overrides)``: the job as ``run.py`` does it."""
    return _run_in_process
