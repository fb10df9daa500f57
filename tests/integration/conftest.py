"""The whole job on a few digits, in this process or in one of its own."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
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
    "metrics.choose_after=0",
    "attack.steps=5",
    "attack.restarts=2",
    "logger=csv",
    "trainer.threads=1",
]
TIMINGS = {"train/images_per_second"}
SCHEDULE = {"warmup_epochs": 1, "ramp_epochs": 0}
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


@pytest.fixture(scope="session")
def weights() -> Callable[[Path], dict[str, torch.Tensor]]:
    """``weights(folder)``: everything trained, optimisers' state included, of a run's last saved point."""
    return _weights


@pytest.fixture(scope="session")
def same_run() -> Callable[[Path, Path], None]:
    """``same_run(first, second)`` asserts that two runs ended the same, bit for bit, timings aside."""
    return _assert_same_run


@pytest.fixture(scope="session")
def kill_and_continue() -> Callable[[Path, list[str]], None]:
    """``kill_and_continue(folder, overrides)``: SIGKILL to a run's processes in its second epoch, then ``ckpt=``."""

    def run(folder: Path, overrides: list[str]) -> None:
        command = [sys.executable, "-m", "securegan.run"]
        start = [*command, *overrides, f"hydra.run.dir={folder}"]
        process = subprocess.Popen(
            start, cwd=folder.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        index = folder / "checkpoints" / "index.json"
        deadline = time.monotonic() + 240
        while not index.is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.1)  # into the second epoch
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert index.is_file(), process.stderr.read() if process.stderr else ""
        last = next(int(o.partition("=")[2]) for o in overrides if o.startswith("trainer.max_epochs="))
        assert json.loads(index.read_text())["last"]["epoch"] < last
        continued = [*command, f"ckpt={folder}"]
        done = subprocess.run(continued, cwd=folder.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return run


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    index = json.loads((folder / "checkpoints" / "index.json").read_text())
    state = torch.load(folder / "checkpoints" / index["last"]["file"], weights_only=True)
    optimisers = {
        f"{i}.{j}.{k}": v
        for i, optimiser in enumerate(state["optimizer_states"])
        for j, values in optimiser["state"].items()
        for k, v in values.items()
    }
    return {**state["state_dict"], **optimisers}


def _rows(folder: Path) -> list[dict[str, Any]]:
    found = json.loads((folder / "metrics.json").read_text())["rows"]
    return [
        {**row, "seconds": 0, "metrics": {k: v for k, v in row["metrics"].items() if k not in TIMINGS}} for row in found
    ]


def _assert_same_run(first: Path, second: Path) -> None:
    one, other = _weights(first), _weights(second)
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert _rows(first) == _rows(second)
    tests = [json.loads((folder / "metrics.json").read_text())["test"] for folder in (first, second)]
    assert tests[0] == tests[1]
    steps = [[row["images_seen"] for row in csv.DictReader((f / "steps.csv").open())] for f in (first, second)]
    assert steps[0] == steps[1]
