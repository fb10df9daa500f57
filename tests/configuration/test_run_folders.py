"""Where Hydra puts runs: folders that tell them apart, and never one for two."""

import subprocess
import sys
from pathlib import Path

import pytest

from securegan.configuration.compose import config_dir

PROGRAM = """
import sys
import hydra
from hydra.core.hydra_config import HydraConfig
from securegan.configuration.compose import compose_checked, config_dir

compose_checked(sys.argv[1:])

@hydra.main(config_path=str(config_dir()), config_name="config", version_base="1.3")
def main(cfg):
    hydra_cfg = HydraConfig.get()
    print(hydra_cfg.run.dir, hydra_cfg.runtime.output_dir, cfg.seed)

main()
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def launch(program: Path, *argv: str) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, str(program), *argv],
        cwd=program.parent,
        env={"PYTHONPATH": str(config_dir().parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split() for line in done.stdout.splitlines() if line.startswith("runs/")]


def test_a_run_folder_says_what_it_holds_and_keeps_its_name(program: Path) -> None:
    """Processes of one distributed run share ``hydra.run.dir``, so reading it twice must give the same folder."""
    ((run_dir, output_dir, seed),) = launch(program, "attack=fgsm", "seed=3")
    assert Path(program.parent, run_dir) == Path(output_dir)
    assert "-gan-fgsm-seed3-" in run_dir
    assert seed == "3"


def test_a_sweeps_jobs_lie_side_by_side_and_flat(program: Path) -> None:
    folders = [Path(output_dir) for _, output_dir, _ in launch(program, "-m", "seed=1,2", "attack.eps=8/255")]
    assert len({folder.parent for folder in folders}) == 1
    assert "-sweep-" in folders[0].parent.name
    assert [folder.name for folder in folders] == ["0-attack.eps-8-255-seed-1", "1-attack.eps-8-255-seed-2"]
