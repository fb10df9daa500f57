"""One of two gloo processes: ``two_ranks.py MEETING RANK`` fails unless both together equal one process."""

import sys
from datetime import timedelta

import torch
import torch.distributed as dist

from securegan.metrics.distributed import all_sum, gather_rows, shard, world
from securegan.metrics.moments import ClassMoments, Moments
from securegan.metrics.quality import InceptionScore
from securegan.metrics.robustness import AttackTally

N = 41  # odd, so that the ranks hold different numbers of rows
GENERATOR = torch.Generator().manual_seed(5)
FEATURES = torch.randn(N, 5, generator=GENERATOR, dtype=torch.float64) + 100
LABELS = torch.randint(-1, 3, (N,), generator=GENERATOR)
MASKS = torch.rand(4, N, generator=GENERATOR) < 0.5


def check_sums_and_rows(mine: list[int], rank: int) -> None:
    assert world() == (rank, 2) and mine == list(range(rank, N, 2))
    assert all_sum(torch.tensor([len(mine), 1])).tolist() == [N, 2]
    assert all_sum(torch.tensor([0.5], dtype=torch.bfloat16)).tolist() == [1.0]
    assert all_sum(torch.tensor([True, rank == 0])).tolist() == [2, 1]
    keys = torch.tensor(mine)
    for whole in (FEATURES, LABELS, MASKS[0], FEATURES.view(N, 5, 1).half()):
        ordered = gather_rows(whole[mine], order=keys)
        assert ordered.dtype == whole.dtype and torch.equal(ordered, whole)
    assert gather_rows(keys).tolist() == [*range(0, N, 2), *range(1, N, 2)]
    only_first = gather_rows(FEATURES[: 3 if rank == 0 else 0])
    assert torch.equal(only_first, FEATURES[:3])
    assert gather_rows(FEATURES[:0]).shape == (0, 5)


def check_figures(mine: list[int], rank: int) -> None:
    reduced, whole = Moments(5).update(FEATURES[mine]).reduce(), Moments(5).update(FEATURES)
    assert reduced.n == N
    torch.testing.assert_close(reduced.mean, whole.mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(reduced.covariance(), whole.covariance(), rtol=1e-12, atol=1e-12)

    tied, all_tied = ClassMoments(3, 5).update(FEATURES[mine], LABELS[mine]).reduce(), ClassMoments(3, 5)
    all_tied.update(FEATURES, LABELS)
    assert torch.equal(tied.counts, all_tied.counts)
    torch.testing.assert_close(tied.means, all_tied.means)
    torch.testing.assert_close(tied.covariance(), all_tied.covariance())

    one_sided = Moments(5)
    if rank == 0:
        one_sided.update(FEATURES)
    torch.testing.assert_close(one_sided.reduce().covariance(), whole.covariance())

    score = InceptionScore(5).update(FEATURES[mine]).reduce().compute()
    torch.testing.assert_close(score, InceptionScore(5).update(FEATURES).compute())
    gathered = [gather_rows(mask[mine], torch.tensor(mine)) for mask in MASKS]  # as an evaluation counts attacks
    assert AttackTally().update(*gathered).figures("label") == AttackTally().update(*MASKS).figures("label")


def main(meeting: str, rank: int) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    mine = list(shard(N))
    check_sums_and_rows(mine, rank)
    check_figures(mine, rank)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
