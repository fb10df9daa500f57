"""Gradient-masking checks: what they let pass and what they must not."""

import pytest
import torch

from securegan.metrics.masking import Check, gains_little, never_weaker, not_weaker, reaches_all


def mask(wins: int, n: int = 100, start: int = 0) -> torch.Tensor:
    out = torch.zeros(n, dtype=torch.bool)
    out[start : start + wins] = True
    return out


def judged(stronger: torch.Tensor, weaker: torch.Tensor) -> Check:
    return not_weaker(stronger, weaker, name="noise_weaker_than_gradient", surface="label")


def test_names_rates_and_n_are_in_the_check():
    check = judged(mask(91), mask(3))
    assert check.passed and check.name == "noise_weaker_than_gradient" and check.surface == "label"
    assert "0.030 <= 0.910" in check.detail and "n = 100" in check.detail


def test_noise_beating_the_gradient_is_caught():
    assert not judged(mask(3), mask(40)).passed
    assert not judged(mask(0), mask(100)).passed  # no spread, no tolerance


def test_the_tolerance_is_two_paired_standard_errors():
    assert judged(mask(50), mask(50)).passed
    # 20 examples change sides: 12 to 8 is 0.9 paired standard errors, 16 to 4 is 2.8
    assert judged(mask(58, start=12), mask(62)).passed
    assert not judged(mask(54, start=16), mask(66)).passed
    # the same rates with nothing shared are far less certain: pairing matters
    assert judged(mask(8, n=20, start=12), mask(12, n=20)).passed


def test_series_must_never_weaken():
    rising = [mask(10), mask(40), mask(90)]
    check = never_weaker(rising, ["eps 0.1", "eps 0.2", "eps 0.3"], name="larger_eps_not_weaker", surface="label")
    assert check.passed and "eps 0.2: 0.400" in check.detail
    back = [mask(10), mask(90), mask(40)]
    assert not never_weaker(back, list("abc"), name="larger_eps_not_weaker", surface="label").passed
    with pytest.raises(ValueError, match="two or more"):
        never_weaker(rising[:1], ["a"], name="x", surface="label")


def test_unbounded_attack_must_reach_all():
    assert reaches_all(mask(100), name="unbounded", surface="label").passed
    assert reaches_all(mask(98), name="unbounded", surface="label").passed
    assert not reaches_all(mask(90), name="unbounded", surface="label").passed


def test_nothing_shown_is_nothing_passed():
    nothing = torch.zeros(0, dtype=torch.bool)
    for check in (
        judged(nothing, nothing),
        reaches_all(nothing, name="unbounded", surface="label"),
        gains_little(nothing, nothing, name="plateau", surface="label"),
    ):
        assert check.passed is None and "nothing could be judged" in check.detail
    with pytest.raises(ValueError, match="two masks"):
        judged(mask(3), mask(3, n=50))


def test_twice_the_steps_may_gain_five_points():
    def gained(wins: int) -> Check:
        return gains_little(mask(40), mask(40 + wins), name="plateau", surface="label")

    assert gained(5).passed and not gained(6).passed
    assert gains_little(mask(40), mask(0), name="plateau", surface="label").passed  # losing is another check's matter
