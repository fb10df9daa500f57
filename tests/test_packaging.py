"""What an installation gets: the package with its configuration, and versions that belong together."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("requirement", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
def test_every_requirement_is_pinned(requirement: str) -> None:
    match = re.match(r"[\w.-]+", requirement)
    assert match and canonical(match[0]) in {canonical(name) for name in PINS}


def test_torch_and_torchvision_are_of_one_release() -> None:
    """torchvision 0.n belongs to torch 2.(n - 14): 0.29 to 2.15."""
    torch, torchvision = (tuple(map(int, PINS[name].split("."))) for name in ("torch", "torchvision"))
    assert torchvision[1] - 14 == torch[1]
    assert "+" not in PINS["torch"] + PINS["torchvision"], "a local version resolves nowhere else"


def test_the_makefile_explains_itself() -> None:
    said = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("run", "test", "lint", "format", "bench", "experiments", "wheel", "clean"):
        assert re.search(rf"^  {target}\s+\S", said, re.MULTILINE)


def test_the_makefile_names_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), ".venv/bin/python", "PYTHON=no-such-python"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "No working Python 3.11, 3.12 or 3.13 was found by the name no-such-python" in done.stderr


@pytest.mark.slow
def test_the_wheel_carries_all_code_and_the_configuration(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    configuration = {f"securegan/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "securegan").rglob("*.py")}
    assert configuration
    assert configuration | code <= names, "a pattern of .gitignore may name a folder of the package"
    assert not [name for name in names if name.startswith(("tests/", "conf/", "experiments/", "benchmarks/"))]
