"""An interrupted run continued ends as if it had never been interrupted."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from securegan.attacks.evasion.base import Task
from securegan.attacks.evasion.pgd import PGD
from securegan.configuration.compose import compose_checked
from securegan.errors import UserError
from securegan.experiment import Experiment


def test_killed_in_mid_epoch_and_continued_is_the_uninterrupted_run(
    finished: Path,
    tmp_path: Path,
    small_settings: list[str],
    kill_and_continue: Callable[[Path, list[str]], None],
    same_run: Callable[[Path, Path], None],
) -> None:
    kill_and_continue(tmp_path / "killed", [*small_settings, "trainer.max_epochs=3"])
    same_run(finished, tmp_path / "killed")
    assert [path.name for path in tmp_path.iterdir()] == ["killed"]  # a continued run makes no folder beside


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path, small_settings: list[str], sent: signal.Signals, code: int
) -> None:
    folder = tmp_path / "stopped"
    command = [sys.executable, "-m", "securegan.run", *small_settings, "trainer.max_epochs=200"]
    process = subprocess.Popen(
        [*command, f"hydra.run.dir={folder}"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )
    try:
        while not (folder / "checkpoints" / "index.json").is_file() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(sent)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code and "Traceback" not in said
    assert f"interrupted; continue with: python -m securegan.run ckpt={folder}" in said


def test_attacks_that_a_killed_evaluation_had_made_are_not_made_again(
    tmp_path: Path, small_settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "killed"
    search, attacked = PGD.search, set[str]()

    def killed_on_latents(attack: PGD, task: Task) -> None:
        if task.purpose[1] == "attack" and task.surface.name == "latent" and (folder / "attacks").exists():
            raise KeyboardInterrupt
        search(attack, task)

    def counted(attack: PGD, task: Task) -> None:
        if task.purpose[1] == "attack":
            attacked.add(task.surface.name)
        search(attack, task)

    monkeypatch.setattr(PGD, "search", killed_on_latents)
    with Experiment.start(folder, compose_checked([*small_settings, "trainer.max_epochs=1"])[0]) as experiment:
        experiment.fit()
        with pytest.raises(KeyboardInterrupt):
            experiment.test()
    monkeypatch.setattr(PGD, "search", counted)
    with Experiment.resume(folder) as experiment:
        experiment.fit()
        experiment.test()
    assert attacked == {"latent"}
    assert not (folder / "attacks").exists()
    assert "robustness/attack_success_label" in experiment.folder.results["test"]["metrics"]


def test_how_often_a_run_is_measured_does_not_change_its_weights(
    finished: Path,
    tmp_path: Path,
    small_settings: list[str],
    run_in_process: Callable[..., Experiment],
    weights: Callable[[Path], dict[str, torch.Tensor]],
) -> None:
    run_in_process(tmp_path / "seldom", *small_settings, "trainer.max_epochs=3", "metrics.every_n_epochs=3")
    one, other = weights(finished), weights(tmp_path / "seldom")
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    measured = json.loads((tmp_path / "seldom" / "metrics.json").read_text())["rows"]
    assert [row["epoch"] for row in measured] == [3]


def test_a_finished_run_continued_changes_nothing(
    finished: Path, tmp_path: Path, same_run: Callable[[Path, Path], None]
) -> None:
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    with Experiment.resume(folder) as experiment:
        experiment.fit()
        experiment.test()
    same_run(finished, folder)


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


@pytest.mark.parametrize(
    ("model", "networks"), [("vae", ("encoder", "decoder")), ("hybrid", ("encoder", "generator", "discriminator"))]
)
def test_models_that_reconstruct_are_continued_exactly_too(
    model: str,
    networks: tuple[str, ...],
    tmp_path: Path,
    small_settings: list[str],
    run_in_process: Callable[..., Experiment],
    kill_and_continue: Callable[[Path, list[str]], None],
    same_run: Callable[[Path, Path], None],
) -> None:
    plain = [setting for setting in small_settings if not setting.startswith(("attack.", "model."))]
    widths = [f"model.{network}_width=8" for network in networks]
    settings = [*plain, f"model={model}", *widths, "attack=none", "trainer.max_epochs=2"]
    run_in_process(tmp_path / "whole", *settings)
    kill_and_continue(tmp_path / "killed", settings)
    same_run(tmp_path / "whole", tmp_path / "killed")
