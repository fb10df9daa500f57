"""The ball and the bounds hold exactly, whatever the rounding; the border is reached."""

import pytest
import torch

from securegan.attacks.spaces import LatentSpace, PixelSpace, magnitude, steepest
from securegan.attacks.threat import Norm


@pytest.mark.parametrize("eps", [8 / 255, 32 / 255, 0.1, 0.3])
def test_linf_projection_is_exact_in_float64_and_reaches_the_border(eps: float) -> None:
    x = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x[0], x[1] = 0.0, 1.0  # exactly black and white pixels
    ball = PixelSpace().ball(x, eps, "linf")
    moved = ball.project(x + 10 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).sign())
    assert (moved.double() - x.double()).abs().max() <= eps
    assert moved.min() >= 0 and moved.max() <= 1
    assert ball.valid(moved).all()
    assert (moved.double() - x.double()).abs().max() > eps * (1 - 1e-5)
    assert (moved[0] > 0).any() and (moved[1] < 1).any()


def test_l2_projection_stays_in_the_ball_and_the_box() -> None:
    x = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ball = PixelSpace().ball(x, 0.5, "l2")
    moved = ball.project(x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1)))
    assert ball.valid(moved).all()
    assert magnitude(moved - x, "l2").max() > 0.3


@pytest.mark.parametrize("eps", [0.002, 0.005, 0.02, 0.1, 1.0])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_small_radii_hold_after_rounding_and_are_reached(norm: Norm, eps: float) -> None:
    source = torch.Generator().manual_seed(0)
    images, codes = torch.rand(64, 3, 16, 16, generator=source), torch.randn(64, 128, generator=source)
    space = LatentSpace(128)
    for ball in (PixelSpace().ball(images, eps, norm), space.ball(space.into_shell(codes), eps, norm)):
        moved = ball.project(ball.origin + torch.randn(ball.origin.shape, generator=source))
        assert ball.valid(moved).all()
        assert ball.distance(moved).max() > 0.99 * eps


def test_a_point_outside_counts_as_invalid() -> None:
    x = torch.full((3, 1, 2, 2), 0.5)
    ball = PixelSpace().ball(x, 0.1, "linf")
    outside = x.clone()
    outside[0] += 0.1001
    outside[1] = torch.nan
    assert ball.valid(outside).tolist() == [False, False, True]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_latents_stay_in_the_ball_and_in_the_shell(norm: str) -> None:
    space = LatentSpace(16)
    z = space.into_shell(torch.randn(500, 16, generator=torch.Generator().manual_seed(0)))
    ball = space.ball(z, 2.0, norm)  # type: ignore[arg-type]
    moved = ball.project(z + 5 * torch.randn(500, 16, generator=torch.Generator().manual_seed(1)))
    assert ball.valid(moved).all()
    assert ball.valid(ball.project(torch.zeros_like(z) + 1e-3 * z)).all()  # straight through the hole
    assert magnitude(moved - z, norm).median() > 0.5  # type: ignore[arg-type]


def test_most_of_the_prior_lies_in_the_shell() -> None:
    space = LatentSpace(64)
    z = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0))
    inside = (z.norm(dim=1) >= space.inner) & (z.norm(dim=1) <= space.outer)
    assert 0.94 < inside.double().mean() < 0.96


def test_steepest_ascent_maximises_the_inner_product() -> None:
    g = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    assert torch.allclose((g * steepest(g, "linf")).sum(1), g.abs().sum(1))
    assert torch.allclose((g * steepest(g, "l2")).sum(1), g.norm(dim=1))
    assert steepest(torch.zeros(1, 3), "l2").isfinite().all()
