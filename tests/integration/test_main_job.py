"""The main job end to end: what a run leaves, and how a user's mistakes end."""

import csv
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file

import securegan.run
from securegan.configuration.compose import compose_checked
from securegan.errors import ConfigError, UserError
from securegan.experiment import Experiment

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_a_run_leaves_a_folder_that_explains_itself(finished: Path) -> None:
    for name in ("config.yaml", "environment.json", "metrics.json", "metrics.csv", "steps.csv", "flagged.csv"):
        assert (finished / name).stat().st_size > 0, name
    results = json.loads((finished / "metrics.json").read_text())
    assert [row["epoch"] for row in results["rows"]] == [1, 2, 3]
    assert results["rows"][0]["images_seen"] * 3 == results["rows"][2]["images_seen"] > 0
    assert len(list(csv.DictReader((finished / "metrics.csv").open()))) == 3
    metrics, n = results["test"]["metrics"], results["test"]["n"]
    for surface in ("label", "authenticity", "latent"):
        assert 0 <= metrics[f"robustness/clean_accuracy_{surface}"] <= 1
    assert metrics["quality/fid_judge"] > 0 and 1 <= metrics["quality/is_judge"] <= 10
    assert n["robustness/attack_success_label"] <= n["robustness/clean_accuracy_label"] == 32
    low, high = results["test"]["interval"]["robustness/attack_success_label"]
    assert low <= metrics["robustness/attack_success_label"] <= high
    assert metrics["robustness/violations_label"] == 0
    assert {check["surface"] for check in results["checks"]} == {"label", "authenticity", "latent"}
    arrays = np.load(finished / "arrays.npz")
    assert arrays["fidelity_clean"].shape == arrays["fidelity_latent_attack"].shape == (64,)
    assert arrays["distance_generated"].shape == (64,)
    flagged = list(csv.DictReader((finished / "flagged.csv").open()))
    assert len(flagged) == int((arrays["distance_generated"] > arrays["threshold"]).sum())


@pytest.fixture
def own_images(tmp_path: Path) -> str:
    """A folder of images, named from the folder it lies in."""
    for number in range(60):
        place = tmp_path / "my images=1" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), number * 4).save(place / f"{number}.png")
    return "data.path='my images=1'"


def test_a_run_that_its_data_refuse_leaves_no_folder(command: Command, tmp_path: Path, own_images: str) -> None:
    done = command("data=folder", own_images, "detector=none", "trainer.max_epochs=1", "data.batch_size=900")
    assert done.returncode == 2 and "data.batch_size=900" in done.stderr
    assert not list((tmp_path / "runs").glob("*/*"))


def test_a_config_works_from_anywhere(tmp_path: Path, own_images: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (config,) = compose_checked(["data=folder", own_images, "detector=none", "logger=none", "data.batch_size=8"])
    with Experiment.start(tmp_path / "run", config):
        pass
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").data.path == f"{tmp_path}/my images=1"


def test_robust_accuracy_and_attack_success_agree(finished: Path) -> None:
    """Right before and after over all = clean accuracy times (1 - attack success)."""
    metrics = json.loads((finished / "metrics.json").read_text())["test"]["metrics"]
    clean, success = (metrics[f"robustness/{key}_label"] for key in ("clean_accuracy", "attack_success"))
    assert metrics["robustness/robust_accuracy_label"] == pytest.approx(clean * (1 - success), abs=1e-9)
    assert metrics["robustness/system_attack_success_label_nonadaptive"] <= success


def test_the_report_stands_alone(finished: Path) -> None:
    html = (finished / "report.html").read_text()
    assert html.count("data:image/png;base64,") >= 6
    assert not re.search(r"""(src|href)=["']?https?:""", html) and "<script" not in html
    assert len(list((finished / "figures").glob("*.png"))) >= 5


def test_the_chosen_checkpoint_is_of_an_epoch_at_full_strength(finished: Path) -> None:
    index = json.loads((finished / "checkpoints" / "index.json").read_text())
    rows = json.loads((finished / "metrics.json").read_text())["rows"]
    trained = {row["epoch"]: row["metrics"]["quality/fid_judge"] for row in rows if row["epoch"] >= 2}
    assert index["best"]["epoch"] == min(trained, key=lambda epoch: trained[epoch])
    assert index["last"]["epoch"] == 3
    files = {path.name for path in (finished / "checkpoints").glob("epoch-*")}
    assert files == {name for entry in index.values() for name in (entry["file"], entry["weights"]["file"])}


def test_checkpoints_hold_plain_data_and_neither_judge_nor_inception(finished: Path) -> None:
    index = json.loads((finished / "checkpoints" / "index.json").read_text())
    state = torch.load(finished / "checkpoints" / index["last"]["file"], weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in state} == {"images_seen", "generator", "discriminator", "ema", "attached"}
    weights = load_file(finished / "checkpoints" / index["last"]["weights"]["file"])
    assert weights.keys() == state.keys() and all(torch.equal(weights[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["attack=pgdd"], r"attack=pgdd.*pgd"),
        (["attack.stepss=3"], r"attack\.stepss.*'attack\.steps'|steps"),
        (["attack.eps=-1"], r"attack\.eps=-1"),
        (["data.size=48"], r"data\.size=48"),
        (["data=folder", "data.path=/nowhere/at/all"], r"data\.path='/nowhere/at/all'"),
        (["model._target_=os.system"], r"_target_"),
        (["ckpt=/nowhere"], r"/nowhere"),
        (["attack=fgsm,pgd"], r"-m"),
        (["-m", "trainer.devices=2", "seed=1,2"], r"trainer\.devices"),
        (["hydra.run.dir=/proc/x"], r"run folder /proc/x cannot be made"),
        (["hydra.run.dir=/proc"], r"run folder /proc cannot be written to"),
        (["hydra.run.dir=notes.txt"], r"run folder /.*notes\.txt cannot be made"),
        (["-m", "hydra.sweep.dir=/proc/x", "seed=1,2"], r"run folder /proc/x"),
    ],
)
def test_a_mistake_ends_with_one_sentence_and_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], overrides: list[str], said: str
) -> None:
    (tmp_path / "notes.txt").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["run", *overrides])
    with pytest.raises(SystemExit) as end:
        securegan.run.main()
    assert end.value.code == 2
    stderr = capsys.readouterr().err
    assert re.search(said, stderr) and len(stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("overrides", [["attack.eps=-1"], ["hydra.run.dir=/proc/x"]], ids=["composing", "hydra"])
def test_a_mistake_leaves_no_traceback_in_the_shell(command: Command, overrides: list[str]) -> None:
    """In a process of its own, where Hydra and Lightning have not been told to be quiet by the tests."""
    done = command(*overrides, timeout=120)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_failure_of_the_job_itself_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what Hydra's making of the folder raises is put down to the folder."""

    def fail(config: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "lost")

    monkeypatch.setattr(securegan.run, "job", fail)
    monkeypatch.setattr("sys.argv", ["run", f"hydra.run.dir={tmp_path / 'run'}"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(FileNotFoundError, match="lost"):
        securegan.run.main()


def test_a_finished_run_is_not_measured_again(finished: Path, command: Command) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    done = command(f"ckpt={finished}", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "already finished" in done.stdout and f"{finished}/report.html" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


def test_a_trained_run_is_attacked_with_something_else(finished: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    asked = ["attack=fgsm", "attack.surfaces=[label]", "metrics.test_attack_images=16"]
    with Experiment.attack_again(finished, tmp_path / "out", asked) as experiment:
        experiment.test()
        experiment.report()
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before
    first, second = (json.loads((folder / "metrics.json").read_text()) for folder in (finished, tmp_path / "out"))
    assert second["protocol"]["attack"]["name"] == "fgsm" and second["rows"] == first["rows"]
    for key in ("quality/fid_judge", "quality/is_judge"):  # of the same checkpoint
        assert second["test"]["metrics"][key] == first["test"]["metrics"][key]
    key = "robustness/attack_success_label"
    assert second["test"]["metrics"][key] <= first["test"]["metrics"][key] and second["test"]["n"][key] <= 16
    assert "robustness/attack_success_latent" not in second["test"]["metrics"]
    assert (tmp_path / "out" / "report.html").is_file()
    with pytest.raises(UserError, match="holds a finished run or attack"):
        Experiment.attack_again(finished, tmp_path / "out", asked)
    with pytest.raises(UserError, match="nothing was trained there"):
        Experiment.resume(tmp_path / "out")


@pytest.mark.parametrize(
    ("override", "said"),
    [("data=mnist", "data cannot be changed on a trained run"), ("attack=none", "expected an attack such as")],
)
def test_what_was_trained_cannot_be_changed_afterwards(
    finished: Path, tmp_path: Path, override: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        Experiment.attack_again(finished, tmp_path / "out", [override])
    assert not (tmp_path / "out").exists()
