"""The denominators of attack success, and the interval beside it."""

import itertools

import pytest
import torch
from scipy.stats import binomtest

from securegan.metrics.robustness import AttackTally, wilson


@pytest.mark.parametrize(("successes", "n"), [(10, 50), (0, 20), (20, 20), (1, 3), (950, 1000)])
def test_wilson_against_scipy(successes, n):
    expected = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson(successes, n, z=1.959964) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_wilson_solves_its_equation_and_refuses_nonsense():
    low, high = wilson(7, 30)
    for bound in (low, high):  # |share - bound| is z standard errors taken at the bound
        assert abs(7 / 30 - bound) == pytest.approx(1.96 * (bound * (1 - bound) / 30) ** 0.5)
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="between 0 and n"):
        wilson(4, 3)


def every_case() -> tuple[torch.Tensor, ...]:
    """One example for each combination of the four masks."""
    rows = torch.tensor(list(itertools.product([False, True], repeat=4)))
    return tuple(rows.T)


def test_three_ways_to_count_are_told_apart():
    """Ten inputs, six right; the attack turns three of them, one by leaving the ball, and four were wrong anyway."""
    right = torch.tensor([1, 1, 1, 1, 1, 1, 0, 0, 0, 0]).bool()
    wrong_after = torch.tensor([1, 1, 1, 0, 0, 0, 1, 1, 1, 1]).bool()
    valid = torch.tensor([0, 1, 1, 1, 1, 1, 1, 1, 1, 1]).bool()
    out = AttackTally().update(right, wrong_after, valid).figures("label")
    metrics = out["metrics"]
    assert metrics["robustness/attack_success_label"] == pytest.approx(2 / 6)  # not 7/10, 6/10, 3/6 or 2/10
    assert metrics["robustness/robust_accuracy_label"] == pytest.approx(4 / 10)
    assert metrics["robustness/clean_accuracy_label"] == pytest.approx(6 / 10)
    assert metrics["robustness/violations_label"] == 1
    assert out["n"]["robustness/attack_success_label"] == 6 and out["n"]["robustness/robust_accuracy_label"] == 10
    assert out["interval"]["robustness/attack_success_label"] == wilson(2, 6)
    assert not any("system" in key for key in metrics)


def test_system_success_shares_the_denominator_and_names_its_adversary():
    right, wrong_after, valid, flagged = every_case()
    tally = AttackTally().update(right, wrong_after, valid, flagged)
    passive, adaptive = tally.figures("label"), tally.figures("label", adaptive=True)
    key = "robustness/system_attack_success_label"
    assert passive["metrics"][f"{key}_nonadaptive"] == adaptive["metrics"][key] == pytest.approx(1 / 8)
    assert key not in passive["metrics"] and f"{key}_nonadaptive" not in adaptive["metrics"]
    assert passive["n"][f"{key}_nonadaptive"] == passive["n"]["robustness/attack_success_label"] == 8


def test_no_right_decision_leaves_success_out_with_a_note():
    nothing, everything = torch.zeros(5).bool(), torch.ones(5).bool()
    out = AttackTally().update(nothing, everything, everything).figures("latent")
    assert "robustness/attack_success_latent" not in out["metrics"]
    assert out["metrics"]["robustness/robust_accuracy_latent"] == 0
    assert len(out["notes"]) == 1 and "attack_success_latent is undefined" in out["notes"][0]
    empty = AttackTally().figures("label")
    assert list(empty["metrics"]) == ["robustness/violations_label"]


def test_batches_add_up():
    masks = every_case()
    parts = AttackTally()
    for start in range(0, 16, 5):
        parts.update(*(mask[start : start + 5] for mask in masks))
    assert parts.figures("label") == AttackTally().update(*masks).figures("label")


def test_masks_must_fit_and_detectors_watch_all_or_none():
    right, wrong_after, valid, flagged = every_case()
    with pytest.raises(ValueError, match="one shape"):
        AttackTally().update(right, wrong_after[:3], valid)
    half = AttackTally().update(right, wrong_after, valid, flagged).update(right, wrong_after, valid)
    with pytest.raises(ValueError, match="all or none"):
        half.figures("label")
