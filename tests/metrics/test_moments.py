"""Streaming moments equal those of all rows at once, also where the mean dwarfs the spread."""

import pytest
import torch

from securegan.errors import UserError
from securegan.metrics.diversity import diversity, spread
from securegan.metrics.moments import ClassMoments, Moments

GENERATOR = torch.Generator().manual_seed(0)
ROWS = torch.randn(101, 6, generator=GENERATOR, dtype=torch.float64) @ torch.randn(6, 6, generator=GENERATOR).double()
LABELS = torch.randint(0, 4, (101,), generator=GENERATOR)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_streaming_equals_batch(offset):
    rows = ROWS + offset
    moments = Moments(6)
    for part in rows.split([1, 50, 0, 13, 37]):
        moments.update(part)
    assert moments.n == 101
    torch.testing.assert_close(moments.mean, rows.mean(0), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(moments.covariance(), rows.T.cov(), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(moments.covariance(ddof=0), rows.T.cov(correction=0), rtol=1e-8, atol=1e-8)


def test_class_moments_are_class_means_and_tied_scatter():
    moments = ClassMoments(5, 6)  # the fifth class never comes
    for rows, labels in zip(ROWS.split(17), LABELS.split(17), strict=True):
        moments.update(rows, labels)
    scatter = torch.zeros(6, 6, dtype=torch.float64)
    for label in range(4):
        own = ROWS[torch.eq(LABELS, label)]
        torch.testing.assert_close(moments.means[label], own.mean(0))
        scatter += (own - own.mean(0)).T @ (own - own.mean(0))
    torch.testing.assert_close(moments.covariance(), scatter / 101)
    assert moments.counts.tolist() == [*torch.bincount(LABELS).tolist(), 0]
    assert torch.equal(moments.means[4], torch.zeros(6, dtype=torch.float64))


def test_unlabelled_rows_are_left_out():
    labels = LABELS.clone()
    labels[:20] = -1
    with_gaps = ClassMoments(4, 6).update(ROWS, labels)
    without = ClassMoments(4, 6).update(ROWS[20:], LABELS[20:])
    torch.testing.assert_close(with_gaps.covariance(), without.covariance())
    assert with_gaps.n == 81


def test_several_batches_and_state_survive():
    left = Moments(6).update(ROWS[:30]).update(ROWS[30:])
    loaded = Moments(6)
    loaded.load_state_dict(left.state_dict())
    torch.testing.assert_close(loaded.covariance(), ROWS.T.cov())
    loaded.update(ROWS)
    assert left.n == 101  # the loaded one has tensors of its own
    with pytest.raises(ValueError, match="expected"):
        Moments(5).load_state_dict(left.state_dict())


def test_too_few_rows_are_a_users_mistake():
    with pytest.raises(UserError, match="at least 2 rows"):
        Moments(6).update(ROWS[:1]).covariance()


def test_spread_is_the_root_mean_square_distance_of_pairs():
    pairs = torch.pdist(ROWS)
    assert spread(Moments(6).update(ROWS)) == pytest.approx(float(pairs.square().mean().sqrt()))


def test_diversity_notices_collapse_overall_and_within_classes():
    real = Moments(6).update(ROWS)
    assert diversity(Moments(6).update(ROWS), real) == pytest.approx(1)
    assert diversity(Moments(6).update(ROWS[:1].expand(50, -1)), real) == pytest.approx(0, abs=1e-6)
    one_for_each_class = torch.stack([ROWS[torch.eq(LABELS, label)][0] for label in range(4)])[LABELS]
    tied = ClassMoments(4, 6).update(ROWS, LABELS)
    assert diversity(ClassMoments(4, 6).update(one_for_each_class, LABELS), tied) == pytest.approx(0, abs=1e-6)
    assert diversity(Moments(6).update(one_for_each_class), real) > 0.3
    with pytest.raises(UserError, match="same features"):
        diversity(real, Moments(6).update(torch.ones(5, 6)))
