"""Thresholds that keep what they promise, and detection figures against their definitions."""

import math

import pytest
import torch

from securegan.errors import UserError
from securegan.metrics.detection import (
    conformal_threshold,
    detection_figures,
    equal_error_threshold,
    ranking_figures,
    tpr_at_fpr,
)
from securegan.metrics.robustness import wilson


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "fpr"), [(99, 0.05), (30, 0.1), (19, 0.05)])
def test_conformal_coverage(n, fpr):
    """Over calibration sets, the mean rate of new negatives above the threshold is floor((n+1) fpr) / (n+1)."""
    calibration = torch.rand(4000, n, generator=torch.Generator().manual_seed(1))
    rates = torch.tensor([1 - conformal_threshold(row, fpr) for row in calibration])  # uniform scores
    expected = math.floor((n + 1) * fpr + 1e-9) / (n + 1)
    assert float(rates.mean()) == pytest.approx(expected, abs=5 * float(rates.std()) / 4000**0.5)
    assert expected <= fpr + 1e-12


def test_conformal_is_the_stated_order_statistic():
    scores = torch.arange(1, 100).float().flip(0)  # n = 99
    assert conformal_threshold(scores, 0.05) == 95  # ceil(100 * 0.95)
    assert conformal_threshold(scores, 0.01) == 99
    with pytest.raises(
        UserError, match=r"0\.009 needs at least 111 calibration.* are 99: .*data\.calibrate.*detector=none"
    ):
        conformal_threshold(scores, 0.009)
    with pytest.raises(UserError, match="between 0 and 1"):
        conformal_threshold(scores, 1.5)
    with pytest.raises(UserError, match="infinite"):
        conformal_threshold(torch.full((99,), torch.inf), 0.05)


def test_separated_scores_are_perfect_and_equal_ones_chance():
    low, high = normal(200), normal(50) + 20
    out = detection_figures(low, high, threshold=10.0)
    for name in ("auroc", "aupr", "tpr_at_1fpr", "tpr_at_5fpr", "accuracy", "precision", "recall", "f1"):
        assert out["metrics"][f"detection/{name}"] == 1, name
    assert out["metrics"]["detection/false_positive_rate"] == 0
    assert out["interval"]["detection/false_positive_rate"] == wilson(0, 200)
    assert out["metrics"]["detection/positive_share"] == pytest.approx(0.2)
    same = detection_figures(torch.zeros(40), torch.zeros(40), threshold=0.0)
    assert same["metrics"]["detection/auroc"] == 0.5
    assert same["metrics"]["detection/tpr_at_5fpr"] == 0  # ties count against the detector
    assert "detection/precision" not in same["metrics"] and "nothing was flagged" in same["notes"][0]


def test_figures_at_a_threshold_by_hand():
    out = detection_figures(torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([1.0, 2.5, 4.0]), threshold=2.0)
    metrics, n = out["metrics"], out["n"]
    assert metrics["detection/accuracy"] == pytest.approx(5 / 7)
    assert metrics["detection/precision"] == pytest.approx(2 / 3) and n["detection/precision"] == 3
    assert metrics["detection/recall"] == pytest.approx(2 / 3)
    assert metrics["detection/f1"] == pytest.approx(2 / 3)
    assert metrics["detection/false_positive_rate"] == 1 / 4 and n["detection/false_positive_rate"] == 4
    # pairs won: 1 over {0}, tie with 1; 2.5 over {0, 1, 2}; 4 over all
    assert metrics["detection/auroc"] == pytest.approx((1.5 + 3 + 4) / 12)


def test_true_positive_rate_never_overspends_its_false_positives():
    low, high = normal(1000), normal(500, seed=1) + 1
    for fpr in (0.01, 0.05):
        threshold = low.sort(descending=True).values[int(1000 * fpr)]
        assert float((low > threshold).double().mean()) <= fpr
        assert tpr_at_fpr(low, high, fpr) == float((high > threshold).double().mean())
    few = normal(50)
    assert tpr_at_fpr(few, high, 0.01) == float((high > few.max()).double().mean())


def test_equal_error_threshold_balances_both_errors():
    real, fake = normal(2000), normal(3000, seed=1) + 2
    threshold = equal_error_threshold(real, fake)
    above, below = float((real > threshold).double().mean()), float((fake <= threshold).double().mean())
    assert above == pytest.approx(below, abs=2e-3)
    assert threshold == pytest.approx(1, abs=0.1)
    assert equal_error_threshold(torch.tensor([0.0, 1.0]), torch.tensor([5.0, 6.0])) == 3
    same = equal_error_threshold(torch.zeros(4), torch.zeros(9))
    assert same in (-1.0, 0.0)  # no threshold parts equal scores


def test_infinite_scores_rank_and_broken_ones_are_refused():
    low, high = torch.tensor([-torch.inf, 0.0]), torch.tensor([1.0, torch.inf])
    assert ranking_figures(low, high)["metrics"]["detection/auroc"] == 1
    with pytest.raises(UserError, match="1 of 2 scores that are not a number"):
        ranking_figures(torch.tensor([0.0, torch.nan]), high)
    with pytest.raises(UserError, match="has none"):
        ranking_figures(low, torch.empty(0))
