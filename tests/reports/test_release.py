"""What a report and W&B say of a release: its verification, and nothing that is not public."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from securegan.errors import UserError
from securegan.reports.html import render
from securegan.reports.results import Release, RunResults
from securegan.reports.wandb_logger import WandbLogger

SUMMARY: dict[str, Any] = {
    "images": 64,
    "released": 60,
    "review": 4,
    "rejected": 0,
    "verdicts": {"byte-exact": 60},
    "sealed_for": ["ab" * 16],
    "detectors": [{"name": "mahalanobis", "threshold": "3.5", "false_positive_rate": "0.05"}],
    "signer": "cd" * 16,
    "model": "ef" * 32,
    "log": {"origin": "securegan/release/1", "size": 65, "root": "12" * 32},
}


def a_run(folder: Path, summary: object) -> Path:
    (folder / "release").mkdir()
    (folder / "release" / "summary.json").write_text(json.dumps(summary))
    (folder / "metrics.json").write_text(json.dumps({"rows": []}))
    return folder


def test_the_report_shows_the_verification(tmp_path: Path) -> None:
    html = render(RunResults.load(a_run(tmp_path, SUMMARY)))
    assert "60 byte-exact" in html and "4 laid aside for review" in html and "cd" * 16 in html and "12" * 32 in html
    assert "Not every released image verifies" not in html


def test_the_report_names_every_signer(tmp_path: Path) -> None:
    html = render(RunResults.load(a_run(tmp_path, {**SUMMARY, "signers": ["ab" * 16, "cd" * 16]})))
    assert f"{'ab' * 16}, {'cd' * 16}" in html


def test_an_image_that_does_not_verify_is_told_in_red(tmp_path: Path) -> None:
    html = render(RunResults.load(a_run(tmp_path, {**SUMMARY, "verdicts": {"byte-exact": 59, "modified": 1}})))
    assert '<strong class="red">Not every released image verifies.' in html


def test_a_run_without_release_has_no_such_section(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps({"rows": []}))
    assert Release.load(tmp_path) is None and "What was released" not in render(RunResults.load(tmp_path))


@pytest.mark.parametrize("damaged", [[], {"images": 3}, {**SUMMARY, "released": "many"}])
def test_a_damaged_summary_is_named(tmp_path: Path, damaged: object) -> None:
    with pytest.raises(UserError, match=r"summary\.json is damaged"):
        RunResults.load(a_run(tmp_path, damaged))


def test_wandb_gets_counts_and_public_names(tmp_path: Path) -> None:
    logger, told = WandbLogger(tmp_path, {}, "name"), dict[str, Any]()
    logger._run = SimpleNamespace(summary=told)
    logger.log_release({**SUMMARY, "secret": "open sesame"})
    assert told["release/released"] == 60 and told["release/verdict byte-exact"] == 60
    assert "sesame" not in str(told) and "sealed" not in str(told)
