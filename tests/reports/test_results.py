"""Reading a run folder: whole, partial and damaged."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from securegan.errors import UserError
from securegan.reports.results import RunResults

WriteRun = Callable[[Path, dict[str, Any]], Path]


def test_whole_folder_is_read(full_run: Path) -> None:
    results = RunResults.load(full_run)
    assert results.headline.value("robustness/attack_success_label") == pytest.approx(0.642)
    assert results.surfaces == ["label", "authenticity", "latent"]  # directions of a surface are none of their own
    assert results.seed == 7
    assert results.config["security"]["passphrase"] == "<hidden>"
    assert results.steps["images_seen"].tolist() == [128.0, 256.0, 384.0]


def test_folder_with_metrics_alone_is_enough(tmp_path: Path, write_run: WriteRun) -> None:
    results = RunResults.load(write_run(tmp_path, {"rows": []}))
    assert results.headline.split == "none"
    assert results.arrays == {} and results.examples == {} and results.config == {}


def test_without_test_the_last_row_is_the_headline(
    tmp_path: Path, content: dict[str, Any], write_run: WriteRun
) -> None:
    del content["test"]
    results = RunResults.load(write_run(tmp_path, content))
    assert (results.headline.split, results.headline.epoch) == ("validate", 5)


def test_null_and_nan_are_no_values(tmp_path: Path, content: dict[str, Any], write_run: WriteRun) -> None:
    content["test"]["metrics"] |= {"detection/auroc": None, "quality/fid_judge": math.nan}
    results = RunResults.load(write_run(tmp_path, content))
    assert results.headline.value("detection/auroc") is None
    assert results.headline.value("quality/fid_judge") is None


def test_group_without_a_choice_is_not_used(full_run: Path, quiet_run: Path) -> None:
    assert RunResults.load(full_run).uses("attack") is True
    quiet = RunResults.load(quiet_run)
    assert [quiet.uses(group) for group in ("attack", "defense", "detector")] == [False, False, False]
    assert quiet.uses("poison") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b'{"rows": [{"epoch": 1'),
        ("metrics.json", b'{"rows": [{"epoch": "first"}]}'),
        ("metrics.json", b"[]"),
        ("arrays.npz", b"PK\x03\x04 and then nothing"),
        ("examples.npz", b""),
        ("config.yaml", b"a: [1"),
        ("config.yaml", b"- a list"),
        ("environment.json", b"\xff\xfe"),
    ],
)
def test_damaged_file_is_named_in_one_sentence(full_run: Path, name: str, content: bytes) -> None:
    (full_run / name).write_bytes(content)
    with pytest.raises(UserError, match=name) as caught:
        RunResults.load(full_run)
    assert "\n" not in str(caught.value) and "damaged" in str(caught.value)


def test_a_config_that_would_fill_the_memory_is_refused(full_run: Path) -> None:
    bomb = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    (full_run / "config.yaml").write_text(f"a0: &a0 [x]\n{bomb}")
    with pytest.raises(UserError, match="YAML alias"):
        RunResults.load(full_run)


def test_pickled_arrays_are_refused(full_run: Path) -> None:
    np.savez(full_run / "arrays.npz", fidelity_clean=np.array([{"any": "object"}], dtype=object))
    with pytest.raises(UserError, match=r"arrays\.npz"):
        RunResults.load(full_run)


def test_distribution_of_wrong_shape_is_damage(full_run: Path) -> None:
    np.savez(full_run / "arrays.npz", distance_real=np.zeros((3, 3)))
    with pytest.raises(UserError, match="distance_real"):
        RunResults.load(full_run)


def test_folder_without_results_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"no metrics\.json"):
        RunResults.load(tmp_path)
