"""Two processes give the figures of one: sums, rows, moments, scores and tallies."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from securegan.metrics.distributed import all_sum, gather_rows, shard, world

CHILD = Path(__file__).with_name("two_ranks.py")


def test_alone_everything_is_the_identity():
    assert world() == (0, 1) and list(shard(3)) == [0, 1, 2]
    mine = torch.tensor([1.5, 2.5])
    total = all_sum(mine)
    assert total.dtype == torch.float64 and torch.equal(total.float(), mine)
    total += 1
    assert mine[0] == 1.5  # a new tensor
    assert all_sum(torch.tensor([True, False])).dtype == torch.int64
    already_wide = torch.ones(2, dtype=torch.float64)
    assert all_sum(already_wide).data_ptr() != already_wide.data_ptr()
    rows = torch.tensor([[3], [1], [2]])
    assert torch.equal(gather_rows(rows), rows)
    assert gather_rows(rows, order=rows[:, 0]).flatten().tolist() == [1, 2, 3]


@pytest.mark.ddp
def test_two_processes_equal_one(tmp_path):
    meeting = tmp_path / "meeting"
    children = [
        subprocess.Popen(
            [sys.executable, str(CHILD), str(meeting), str(rank)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PYTHONPATH": str(CHILD.parents[2]), "OMP_NUM_THREADS": "1", "PATH": ""},
        )
        for rank in (0, 1)
    ]
    for child in children:
        output, _ = child.communicate(timeout=120)
        assert child.returncode == 0, output
