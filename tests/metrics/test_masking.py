"""Gradient-masking checks: what they let pass and what they must not."""

import pytest
import torch

from securegan.metrics.masking import (
    Check,
    at_chance,
    at_most,
    finds_all_of,
    gains_little,
    never_weaker,
    not_weaker,
    reaches_all,
    settled,
)


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
        finds_all_of(nothing, nothing, name="black box", surface="label"),
        at_most(nothing, "differ", name="repeated", surface="label"),
        at_chance(nothing, nothing.long(), name="grey", surface="label"),
    ):
        assert check.passed is None and "nothing could be judged" in check.detail
    with pytest.raises(ValueError, match="two masks"):
        judged(mask(3), mask(3, n=50))


def test_a_gain_counts_net_and_beyond_chance_whatever_n() -> None:
    def gained(wins: int, losses: int = 0, n: int = 100) -> bool | None:
        longer = mask(wins, n, start=losses) | mask(n // 2 - wins, n, start=n // 2 + wins)
        base = mask(losses, n) | mask(n // 2 - wins, n, start=n // 2 + wins)
        return gains_little(base, longer, name="plateau", surface="label").passed

    assert gained(2, n=32)  # as many as chance gives
    assert gained(5) and not gained(6)
    assert gained(18, n=1000) and not gained(20, n=1000)  # far from five points, yet certain
    assert gained(105, n=10_000) and not gained(140, n=10_000)
    assert gained(12, 8) and gained(0, 10)  # two cold runs differ either way


def test_what_the_weaker_attack_alone_finds_is_counted() -> None:
    def missed(count: int, n: int = 100) -> Check:
        return finds_all_of(mask(80, n), mask(count + 5, n, start=75), name="black box", surface="label")

    assert missed(2).passed and not missed(3).passed
    assert missed(8, n=1000).passed and not missed(11, n=1000).passed
    assert "3 of them by it alone" in missed(3).detail


def test_faults_are_tolerated_only_where_some_are_allowed() -> None:
    def faulty(count: int, most: float) -> bool | None:
        return at_most(mask(count), "differ", name="repeated", surface="label", most=most).passed

    assert faulty(0, 0) and not faulty(1, 0)
    assert faulty(2, 0.01) and not faulty(3, 0.01) and faulty(5, 0.05) and not faulty(6, 0.05)


def test_chance_is_the_commonest_answer() -> None:
    labels = torch.arange(100) % 10
    assert at_chance(mask(16), labels, name="grey", surface="label").passed
    assert not at_chance(mask(17), labels, name="grey", surface="label").passed
    assert at_chance(mask(70), (torch.arange(100) < 70).long(), name="grey", surface="label").passed


def test_a_search_that_still_rises_has_not_settled() -> None:
    def risen(late: list[float], total: list[float]) -> Check:
        return settled(torch.tensor(late), torch.tensor(total), name="rest", surface="label")

    assert risen([0.2] * 9, [10.0] * 9).passed and not risen([0.8] * 9, [10.0] * 9).passed
    assert risen([0.8, torch.nan] * 5, [10.0, torch.nan] * 5).detail.endswith("n = 5 that withstood")
    assert risen([0.0, 0.0, 2.0], [10.0, 10.0, 10.0]).passed  # one of three: chance
    assert risen([0.0] * 3, [0.0] * 3).passed is False
    assert risen([0.9, torch.nan], [1.0, torch.nan]).passed is None
