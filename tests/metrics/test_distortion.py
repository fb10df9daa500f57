"""The area under the distortion-distortion curve, on curves whose area is known."""

import pytest
import torch
from torch import Tensor

from securegan.metrics.distortion import GRID, DistortionCurve, distortion_curve

SHARES = torch.tensor([[0.1, 0.4, 0.7, 0.9]], dtype=torch.float64)


def measured(shares: Tensor, heights: Tensor, *, span: float = 4.0, reached: float = 2.0) -> DistortionCurve:
    """Of normalised ``heights`` at normalised ``shares``, in units in which nothing is 0 or 1."""
    clean = 5.0
    return distortion_curve(
        shares * span,
        reached + heights * (clean - reached),
        span=torch.full((len(shares),), span),
        clean=torch.full((len(shares),), clean),
        reached=torch.full((len(shares),), reached),
    )


def test_an_output_in_proportion_to_its_input_has_one_half() -> None:
    found = measured(SHARES, 1 - SHARES)
    assert found.area.item() == pytest.approx(0.5)
    torch.testing.assert_close(found.distance[0], torch.linspace(1, 0, GRID, dtype=torch.float64))


def test_the_area_is_that_of_a_known_curve_and_falls_with_the_strength_of_the_attack() -> None:
    shares = torch.linspace(0, 1, 400, dtype=torch.float64)[None]
    assert measured(shares, (1 - shares) ** 2).area.item() == pytest.approx(1 / 3, abs=1e-4)
    assert measured(shares, 1 - shares**2).area.item() == pytest.approx(2 / 3, abs=1e-4)
    found = measured(shares, (1 - shares) ** 2)
    assert found.distance.mean().item() == pytest.approx(found.area.item(), abs=0.01)


def test_order_does_not_matter_and_more_distortion_is_never_a_weaker_attack() -> None:
    turned = measured(SHARES.flip(1), (1 - SHARES).flip(1))
    assert turned.area.item() == pytest.approx(0.5)
    worse = 1 - SHARES
    worse[0, 2] = 3.0  # a search that failed at a wider radius
    found = measured(SHARES, worse)
    assert (found.distance.diff(dim=1) <= 1e-12).all() and 0.5 < found.area.item() < 0.65


def test_what_is_farther_than_the_target_itself_counts_as_the_target() -> None:
    heights = torch.tensor([[0.6, 5.0]], dtype=torch.float64)
    with_far = measured(torch.tensor([[0.4, 3.0]], dtype=torch.float64), heights)
    assert with_far.area.item() == pytest.approx(0.5)


def test_nearer_than_the_targets_own_reconstruction_is_no_more_than_reached() -> None:
    heights = torch.tensor([[0.5, -3.0]], dtype=torch.float64)
    found = measured(torch.tensor([[0.25, 0.5]], dtype=torch.float64), heights)
    assert found.area.item() == pytest.approx(0.25 * 0.75 + 0.25 * 0.25)
    assert found.distance.min() == 0


def test_targets_that_are_given_back_no_nearer_have_no_curve() -> None:
    found = measured(SHARES.repeat(2, 1), (1 - SHARES).repeat(2, 1), reached=5.0)
    assert found.area.isnan().all() and found.distance.isnan().all()
