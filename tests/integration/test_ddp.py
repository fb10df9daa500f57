"""Two gloo processes train together, write once, and every figure equals one process's on the same weights."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from securegan.experiment import Experiment
from securegan.runs.checkpoints import load_weights
from securegan.runs.folder import RunFolder

pytestmark = pytest.mark.ddp

TWO_RANKS = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=2"]


def trained(folder: Path, *overrides: str) -> Path:
    """``folder`` with a finished run of two processes."""
    done = subprocess.run(
        [sys.executable, "-m", "securegan.run", *overrides, f"hydra.run.dir={folder}"],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report.html") == 1  # one closing table
    return folder


def assert_figures_are_those_of_one_process(folder: Path) -> Experiment:
    reported = json.loads((folder / "metrics.json").read_text())["test"]["metrics"]
    config = RunFolder.open(folder).config()
    config.trainer.strategy, config.trainer.devices = "auto", 1
    with Experiment(RunFolder.open(folder), config, resumed=True) as alone:
        load_weights(alone.module, alone.folder)
        outcome = alone.evaluation.measure(alone.module, alone.data, "test", final=True)
    checks = json.loads((folder / "metrics.json").read_text())["checks"]
    assert [(check.name, check.surface, check.passed) for check in outcome.checks] == [
        (check["name"], check["surface"], check["passed"]) for check in checks
    ]
    with np.load(folder / "arrays.npz") as arrays:
        curves = [name for name in outcome.arrays if name.startswith("radius_")]
        assert curves == [name for name in arrays if name.startswith("radius_")]
        for name in curves:
            np.testing.assert_allclose(arrays[name], outcome.arrays[name], rtol=1e-6, err_msg=name)
    metrics = outcome.metrics
    assert metrics.keys() == reported.keys()
    for key, value in metrics.items():
        assert reported[key] == pytest.approx(value, rel=1e-5, abs=1e-6, nan_ok=True), key
    return alone


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A finished run of two processes."""
    settings = request.getfixturevalue("small_settings")
    return trained(tmp_path_factory.mktemp("ddp") / "run", *settings, *TWO_RANKS)


def test_the_reduced_figures_equal_those_of_one_process(two_ranks: Path) -> None:
    alone = assert_figures_are_those_of_one_process(two_ranks)
    detector = alone.detectors[0]
    threshold = detector.threshold
    detector.fit(alone.module, alone.data)  # as one process fits it on the same images
    assert detector.threshold == pytest.approx(threshold, rel=1e-5)


def test_a_suite_its_sweep_and_its_adaptive_attack_report_what_one_process_finds(
    tmp_path: Path, small_settings: list[str]
) -> None:
    kept = [setting for setting in small_settings if not setting.startswith("metrics.test_attack_images")]
    suite = ["attack=suite", "attack.attacks=[apgd_ce,apgd_targeted,square]", "attack.target_classes=2"]
    suite += ["attack.queries=20", "attack.adaptive=true", "metrics.eps_factors=[0.25,0.5]"]
    suite += ["metrics.test_attack_images=12", "metrics.check_images=6"]
    folder = trained(tmp_path / "run", *kept, *suite, *TWO_RANKS, "trainer.max_epochs=1")
    alone = assert_figures_are_those_of_one_process(folder)
    assert alone.attack is not None and alone.attack.name == "suite" and alone.attack.adaptive
    reported = json.loads((folder / "metrics.json").read_text())
    assert "robustness/system_attack_success_label" in reported["test"]["metrics"]
    assert reported["test"]["n"]["robustness/clean_accuracy_label"] == 12
    assert any(check["surface"] == "label behind the detector" for check in reported["checks"])
    with np.load(folder / "arrays.npz") as arrays:
        assert {"radius_label", "radius_authenticity", "radius_latent"} <= set(arrays)
    assert not (folder / "attacks").exists()


@pytest.mark.slow
def test_a_hybrid_trains_and_is_measured_in_two_processes(tmp_path: Path, small_settings: list[str]) -> None:
    groups = ("attack", "defense", "detector")
    kept = [setting for setting in small_settings if not setting.startswith(tuple(f"{group}." for group in groups))]
    plain = ["model=hybrid", "model.encoder_width=8", *(f"{group}=none" for group in groups)]
    folder = trained(tmp_path / "run", *kept, *plain, *TWO_RANKS, "trainer.max_epochs=1")
    assert_figures_are_those_of_one_process(folder)
    last = list(csv.DictReader((folder / "steps.csv").open()))[-1]
    assert float(last["train/loss_autoencoder"]) > 0


def test_counts_are_global_and_rows_are_written_once(two_ranks: Path) -> None:
    rows = json.loads((two_ranks / "metrics.json").read_text())["rows"]
    batches, size = 240 // 16, 16  # of the 400 digits, 60 % train
    assert [row["images_seen"] for row in rows] == [size * batches, size * batches * 2]
    steps = list(csv.DictReader((two_ranks / "steps.csv").open()))
    assert [int(float(row["images_seen"])) for row in steps] == sorted(
        {int(float(row["images_seen"])) for row in steps}
    )


def test_two_killed_processes_continue_as_if_they_had_not_been(
    two_ranks: Path,
    tmp_path: Path,
    small_settings: list[str],
    kill_and_continue: Callable[[Path, list[str]], None],
    same_run: Callable[[Path, Path], None],
) -> None:
    kill_and_continue(tmp_path / "killed", [*small_settings, *TWO_RANKS])
    same_run(two_ranks, tmp_path / "killed")
