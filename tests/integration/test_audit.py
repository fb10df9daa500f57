"""``securegan audit`` on a finished run: what it prints, leaves and returns."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import securegan.cli
from securegan.evaluation.evaluator import Evaluator
from securegan.metrics.masking import Check


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def audit(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the command."""
    monkeypatch.setattr("sys.argv", ["securegan", "audit", *arguments])
    try:
        securegan.cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_an_audit_is_printed_and_kept_for_the_report(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = audit(monkeypatch, str(run), "--surface", "label", "authenticity", "--images", "12", "--checkpoint", "last")
    found = json.loads((run / "audit.json").read_text())
    assert code == any(check["passed"] is False for check in found["checks"])
    assert {check["surface"] for check in found["checks"]} == {"label", "authenticity"}
    assert (found["checkpoint"], found["epoch"], found["split"], found["images"]) == ("last", 3, "test", 12)
    assert found["attack"]["name"] == "pgd" and not found["full"]
    printed = capsys.readouterr().out
    assert "FGSM <= PGD" in printed and "audit.json" in printed
    monkeypatch.setattr("sys.argv", ["securegan", "report", str(run)])
    securegan.cli.main()
    assert "Audit of the last checkpoint" in (run / "report.html").read_text()


def test_it_measures_what_the_run_measured(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chosen checkpoint on the test split with the run's own settings gives the very checks of its report."""
    audit(monkeypatch, str(run), "--surface", "label")
    there = json.loads((run / "metrics.json").read_text())["checks"]
    again = json.loads((run / "audit.json").read_text())["checks"]
    assert again == [check for check in there if check["surface"] == "label"]


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (None, 0), (False, 1)])
def test_a_violation_ends_with_code_1(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    passed: bool | None,
    code: int,
) -> None:
    check = Check("black box <= white box", "label", passed, "9 found, 9 of them by it alone")
    asked = []

    def found(self: Evaluator, module: object, surface: object, split: str, images: int, **other: Any) -> list[Check]:
        asked.append((split, images, other["full"]))
        return [check]

    monkeypatch.setattr(Evaluator, "audit", found)
    assert audit(monkeypatch, str(run), "--surface", "label", "--full") == code
    assert asked == [("test", 16, True)]
    assert ("1 of 1 checks failed" in capsys.readouterr().out) == (code == 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--surface", "labell"], "--surface=labell is not possible with this run"),
        (["--surface", "reconstruction"], "expected some of label, authenticity, latent"),
        (["--images", "0"], "0 is not a positive number"),
        (["--device", "abacus"], "--device=abacus cannot be used"),
    ],
)
def test_a_mistake_ends_with_code_2(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    assert audit(monkeypatch, str(run), *arguments) == 2
    stderr = capsys.readouterr().err.strip()
    assert said in stderr and len(stderr.splitlines()) == 1
    assert not (run / "audit.json").exists()


def test_a_folder_without_a_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(monkeypatch, str(tmp_path)) == 2
    assert "is not a run folder" in capsys.readouterr().err
