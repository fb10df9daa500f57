"""attack=transfer within a run and on a trained one, against the judge and against another run."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from securegan.errors import ConfigError
from securegan.experiment import Experiment
from securegan.runs.folder import RunFolder
from securegan.runs.surrogate import surrogate_of_run

ASKED = ["metrics.test_attack_images=32", "metrics.check_images=8", "attack.steps=5", "attack.restarts=2"]


def attacked(trained: Path, out: Path, *overrides: str) -> dict[str, Any]:
    with Experiment.attack_again(trained, out, [*overrides, *ASKED]) as experiment:
        experiment.test()
        experiment.report()
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return found


def success(results: dict[str, Any]) -> float:
    return float(results["test"]["metrics"]["robustness/attack_success_label"])


def test_a_trained_run_is_attacked_from_the_judge_and_from_another_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    white = attacked(finished, tmp_path / "white", "attack=pgd", "attack.surfaces=[label]")
    judge = attacked(finished, tmp_path / "judge", "attack=transfer")
    monkeypatch.chdir(finished.parent)
    itself = attacked(finished, tmp_path / "itself", "attack=transfer", f"attack.surrogate={finished.name}")
    assert success(judge) <= success(white)
    assert abs(success(itself) - success(white)) < 0.15 and success(itself) > 0
    for results in (judge, itself):
        threat = results["protocol"]["attack"]["threat_models"]
        assert list(threat) == ["label"] and threat["label"]["knowledge"] == "transfer"
        queries = results["test"]["metrics"]["robustness/mean_queries_label"]
        assert 1 < queries <= 1 + 2
    kept = [results["protocol"]["attack"]["surrogate_weights"] for results in (judge, itself)]
    assert kept[0] != kept[1]
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


def test_a_whole_run_ends_with_it(
    tmp_path: Path, small_settings: list[str], run_in_process: Callable[..., Experiment]
) -> None:
    run_in_process(tmp_path / "run", *small_settings, "attack=transfer", "trainer.max_epochs=1")
    results = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (
        results["protocol"]["attack"]["name"] == "transfer" and results["protocol"]["attack"]["epochs"]["name"] == "pgd"
    )
    assert "robustness/attack_success_label" in results["test"]["metrics"]
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_surrogate_that_is_no_run_is_refused_in_one_sentence(finished: Path, tmp_path: Path) -> None:
    said = re.escape(f"attack.surrogate={tmp_path / 'nowhere'} cannot be used: ")
    with pytest.raises(ConfigError, match=said):
        Experiment.attack_again(
            finished, tmp_path / "out", ["attack=transfer", f"attack.surrogate={tmp_path / 'nowhere'}"]
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ("cat", "dog"), "num_classes": 2},
        {"class_names": tuple("abcdefghij")},
        {"channels": 3},
        {"size": 64},
    ],
    ids=["classes", "names", "channels", "size"],
)
def test_a_surrogate_of_other_images_is_refused_in_one_sentence(finished: Path, change: dict[str, Any]) -> None:
    spec = RunFolder(finished).spec()
    assert surrogate_of_run(str(finished), spec).class_names == spec.class_names
    said = rf"attack\.surrogate={re.escape(str(finished))} is not allowed: it reads 10 classes .*; expected a run on "
    with pytest.raises(ConfigError, match=said):
        surrogate_of_run(str(finished), replace(spec, **change))
