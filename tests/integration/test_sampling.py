"""``securegan sample``: the same images whatever is asked for beside them, and mistakes in one sentence."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from securegan.errors import UserError
from securegan.randomness import normal
from securegan.runs.export import load_generator
from securegan.runs.sampling import TOGETHER, as_grid, class_of, load_module, sample, write_samples


def images(finished: Path, n: int, **settings: object) -> torch.Tensor:
    parts = sample(load_module(finished), n, **{"seed": 0, **settings})  # type: ignore[arg-type]
    return torch.cat([part for part, _ in parts])


def test_an_image_is_a_function_of_its_number_and_the_seed(finished: Path) -> None:
    few, many = images(finished, 5), images(finished, 71)
    assert many.shape == (71, 1, 32, 32) and many.min() >= 0 and many.max() <= 1
    assert torch.equal(few, many[:5])
    assert len(many.flatten(1).unique(dim=0)) == 71
    assert not torch.equal(few, images(finished, 5, seed=1))
    assert not torch.equal(few, images(finished, 5, averaged=False))


def test_the_generator_is_rebuilt_without_its_data(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = shutil.copytree(finished, tmp_path / "moved")
    expected = images(finished, 4)
    monkeypatch.setattr("securegan.data.digits.Digits.load", None)
    assert torch.equal(images(moved, 4), expected)
    (moved / "data.json").write_text('{"name": "cut')
    with pytest.raises(UserError, match=r"data\.json is damaged"):
        load_module(moved)
    (moved / "data.json").unlink()
    with pytest.raises(UserError, match=r"data\.json cannot be read"):
        load_module(moved)


def test_files_classes_and_the_overview(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_samples(load_module(finished), out, 13, seed=3)
    with (out / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [str(i % 10) for i in range(13)]
    expected = images(finished, 13, seed=3).mul(255).round().to(torch.uint8)
    for row, image in zip(rows, expected, strict=True):
        with Image.open(out / row["file"]) as written:
            assert np.array_equal(np.asarray(written), image[0].numpy())
    with Image.open(out / "grid.png") as grid:
        assert grid.size == (4 * 32, 4 * 32)
        assert np.array_equal(np.asarray(grid)[32:64, :32], expected[4, 0].numpy())
    with pytest.raises(UserError, match="is not empty"):
        write_samples(load_module(finished), out, 1, seed=3)


def test_one_class_and_names_that_are_none(finished: Path) -> None:
    module = load_module(finished)
    labels = [y for _, y in sample(module, 40, seed=0, label=class_of(module, "7"))]
    assert all(y is not None and (y == 7).all() for y in labels)
    with pytest.raises(UserError, match="--class=10 is not a class"):
        class_of(module, "10")


def test_a_grid_is_as_square_as_it_goes() -> None:
    grid = as_grid(torch.arange(1.0, 6.0)[:, None, None, None].expand(5, 3, 2, 2))
    assert grid.shape == (3, 4, 6)
    assert grid[0, ::2, ::2].tolist() == [[1, 2, 3], [4, 5, 0]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sample", "{run}"], "--out"),
        (["sample", "{run}", "--out", "x", "--n", "0"], "0 is not a positive number"),
        (["sample", "/nowhere", "--out", "x"], "/nowhere is not a run folder"),
        (["export", "{run}"], "--out"),
        (["export", "{run}", "--out", "x", "--format", "pickle"], "invalid choice: 'pickle'"),
        (["export", "/nowhere", "--out", "x"], "/nowhere is not a run folder"),
        (["sampel"], "Did you mean 'sample'"),
        (["report"], "RUN"),
    ],
)
def test_the_command_line(finished: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    given = [argument.format(run=finished) for argument in arguments]
    command = [sys.executable, "-m", "securegan", *given]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_command_writes_images(finished: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "securegan", "sample", str(finished), "--n", "3", "--out", "new"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert len(list((tmp_path / "new").glob("0*.png"))) == 3
    assert json.loads((finished / "data.json").read_text())["num_classes"] == 10


def test_an_exported_generator_gives_the_samples(finished: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "securegan", "export", str(finished), "--out", "new"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 1 and not done.stderr
    z = torch.stack([normal((64,), 0, "sample", number) for number in range(TOGETHER)])
    found = load_generator(tmp_path / "new")(z, torch.arange(TOGETHER) % 10)
    assert torch.equal(found[:5], images(finished, 5))
    test = json.loads((finished / "metrics.json").read_text())["test"]
    card = (tmp_path / "new" / "README.md").read_text()
    assert f"| `quality/fid_judge` | {test['metrics']['quality/fid_judge']:.4g} | - | 64 | test |" in card
