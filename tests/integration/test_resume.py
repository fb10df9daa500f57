"""An interrupted run continued ends as if it had never been interrupted."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from securegan.errors import UserError
from securegan.experiment import Experiment

TIMINGS = {"train/images_per_second"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    index = json.loads((folder / "checkpoints" / "index.json").read_text())
    state = torch.load(folder / "checkpoints" / index["last"]["file"], weights_only=True)
    optimisers = {
        f"{i}.{j}.{k}": v
        for i, optimiser in enumerate(state["optimizer_states"])
        for j, values in optimiser["state"].items()
        for k, v in values.items()
    }
    return {**state["state_dict"], **optimisers}


def rows(folder: Path) -> list[dict[str, Any]]:
    found = json.loads((folder / "metrics.json").read_text())["rows"]
    return [
        {**row, "seconds": 0, "metrics": {k: v for k, v in row["metrics"].items() if k not in TIMINGS}} for row in found
    ]


def assert_same_run(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert rows(first) == rows(second)
    tests = [json.loads((folder / "metrics.json").read_text())["test"] for folder in (first, second)]
    assert tests[0] == tests[1]
    steps = [[row["images_seen"] for row in csv.DictReader((f / "steps.csv").open())] for f in (first, second)]
    assert steps[0] == steps[1]


def test_killed_in_mid_epoch_and_continued_is_the_uninterrupted_run(
    finished: Path, tmp_path: Path, small_settings: list[str]
) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "securegan.run"]
    start = [*command, *small_settings, "trainer.max_epochs=3", f"hydra.run.dir={folder}"]
    process = subprocess.Popen(start, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    index = folder / "checkpoints" / "index.json"
    deadline = time.monotonic() + 240
    while not index.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)  # into the second epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert index.is_file(), process.stderr.read() if process.stderr else ""
    assert json.loads(index.read_text())["last"]["epoch"] < 3
    done = subprocess.run([*command, f"ckpt={folder}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_same_run(finished, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["killed"]  # a continued run makes no folder beside


def test_how_often_a_run_is_measured_does_not_change_its_weights(
    finished: Path, tmp_path: Path, small_settings: list[str], run_in_process: Callable[..., Experiment]
) -> None:
    run_in_process(tmp_path / "seldom", *small_settings, "trainer.max_epochs=3", "metrics.every_n_epochs=3")
    one, other = weights(finished), weights(tmp_path / "seldom")
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert [row["epoch"] for row in rows(tmp_path / "seldom")] == [3]


def test_a_finished_run_continued_changes_nothing(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    with Experiment.resume(folder) as experiment:
        experiment.fit()
        experiment.test()
    assert_same_run(finished, folder)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-100], lambda content: content[:500] + b"x" + content[501:]]
)
def test_a_damaged_checkpoint_is_named_in_one_sentence(
    finished: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(finished, folder)
    index = json.loads((folder / "checkpoints" / "index.json").read_text())
    file = folder / "checkpoints" / index["last"]["file"]
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=f"{file.name} is damaged"):
        Experiment.resume(folder)


def test_a_folder_in_use_is_refused(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "used"
    shutil.copytree(finished, folder)
    with Experiment.resume(folder), pytest.raises(UserError, match="in use"):
        Experiment.resume(folder)
