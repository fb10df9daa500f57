"""The whole job with every addition to the game: it resumes exactly, and its processes agree on what adapts."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from securegan.experiment import Experiment

EVERYTHING = [
    "model=gan_strong",
    "model.attention=8",
    "model.gradient_penalty=0.1",
    "model.diffaugment=[color,translation,cutout]",
    "model.ada_target=0.6",
    "model.ada_images=1000",
    "trainer.max_epochs=2",
    "attack=none",
]


def test_killed_and_continued_is_the_uninterrupted_run(
    tmp_path: Path,
    small_settings: list[str],
    run_in_process: Callable[..., Experiment],
    kill_and_continue: Callable[[Path, list[str]], None],
    same_run: Callable[[Path, Path], None],
    weights: Callable[[Path], dict[str, torch.Tensor]],
) -> None:
    settings = [*(setting for setting in small_settings if not setting.startswith("attack.")), *EVERYTHING]
    run_in_process(tmp_path / "whole", *settings)
    kill_and_continue(tmp_path / "killed", settings)
    same_run(tmp_path / "whole", tmp_path / "killed")
    found = weights(tmp_path / "killed")
    assert 0 < found["ada.probability"] < 1 or found["ada.tally"][1] > 0


CHILD = """
import sys, torch, torch.distributed as dist
from securegan.models.gan.diffaugment import AdaptiveProbability
rank = int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=2)
ada = AdaptiveProbability(0.6, images=1000)
for step in range(6):
    margins = torch.full((64 + rank,), 1.0 if rank == 0 or step < 4 else -1.0)  # the second is unsure later on
    ada.observe(margins)
print(ada.probability.item())
dist.destroy_process_group()
"""


@pytest.mark.ddp
def test_ranks_adapt_together(tmp_path: Path) -> None:
    start = [sys.executable, "-c", CHILD, str(tmp_path / "meeting")]
    ranks = [subprocess.Popen([*start, str(rank)], stdout=subprocess.PIPE, text=True) for rank in (0, 1)]
    said = [float(process.communicate(timeout=120)[0]) for process in ranks]
    # 129 images a step, so two steps a window: up, up, then down, for both ranks alike
    assert said[0] == said[1] == pytest.approx(0.258)
