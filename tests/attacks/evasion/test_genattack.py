"""GenAttack: what children are made of, that the fittest survives, and that the search is worth its queries."""

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.engine import start_noise
from securegan.attacks.evasion.black_box import Streams
from securegan.attacks.evasion.genattack import GenAttack
from securegan.attacks.spaces import PixelSpace
from securegan.attacks.surfaces import LabelSurface


class Numbers(Streams):
    """Streams of ``n`` examples without a task."""

    def __init__(self, n: int) -> None:
        self.sources = [torch.Generator().manual_seed(place) for place in range(n)]
        self.device = torch.device("cpu")


@pytest.mark.parametrize(
    ("plateaus", "rho", "alpha"), [(0, 0.5, 0.4), (5, 0.5 * 0.9**5, 0.4 * 0.9**5), (99, 0.1, 0.15)]
)
def test_mutations_follow_the_plateaus(plateaus: int, rho: float, alpha: float) -> None:
    origin = torch.full((2, 1, 40, 40), 0.5)
    ball, members = PixelSpace().ball(origin, 0.2, "linf"), origin[:, None].repeat(1, 6, 1, 1, 1)
    children = GenAttack(eps=0.2)._children(ball, members, torch.zeros(2, 6), torch.full((2,), plateaus), 5, Numbers(2))
    moved = (children - 0.5).flatten()
    assert float((moved != 0).float().mean()) == pytest.approx(rho, abs=0.02)
    assert 0.95 * alpha * 0.2 < moved.abs().max() <= alpha * 0.2 + 1e-6
    assert float(moved[moved != 0].abs().mean()) == pytest.approx(alpha * 0.1, rel=0.05)


def test_parents_and_their_shares_follow_the_fitness() -> None:
    """Of members 0 and 1 times the radius, values come from the first in proportion to the softmax of its fitness."""
    origin = torch.full((1, 1, 40, 40), 0.5)
    ball = PixelSpace().ball(origin, 0.2, "linf")
    members = torch.stack([origin, origin + 0.2], 1)
    attack = GenAttack(eps=0.2, population=2, rho_min=0, temperature=1)
    # no value moves; the fitnesses are 1.41 standard deviations apart, whatever their scale
    for scale in (1e-3, 1e3):
        fitness = scale * torch.tensor([[1.0, 0.0]])
        children = attack._children(ball, members, fitness, torch.tensor([10_000]), 400, Numbers(1))
        share = torch.tensor(2**0.5).sigmoid()  # of draws, and of values where the parents differ
        expected = share**2 + 2 * share * (1 - share) * share
        assert float((children < 0.6).float().mean()) == pytest.approx(float(expected), abs=0.03)


def test_the_best_is_never_lost_and_beats_random_draws(surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    keys, attack = torch.arange(24), GenAttack(eps=0.08, queries=200)
    found = attack(surface, images, truth, keys=keys)
    ball = surface.space.ball(images, 0.08, "linf")
    victim: nn.Module = surface.victims[0].eval()
    lost = torch.zeros(24, dtype=torch.bool)
    with torch.no_grad():
        for draw in range(200):
            lost |= victim(ball.start(start_noise(images, "linf", ("random", draw), keys))).argmax(1) != truth
    assert found.success.sum() > lost.sum() + 3


def test_the_scale_of_scores_does_not_matter(
    victim: nn.Module, surface: LabelSurface, images: Tensor, truth: Tensor
) -> None:
    loud = LabelSurface(lambda x: 1024 * victim(x), (victim,), "abcd")
    attack, keys = GenAttack(eps=0.06, queries=60), torch.arange(24)
    plain, scaled = (attack(where, images, truth, keys=keys).adversarial for where in (surface, loud))
    assert torch.equal(plain, scaled)


def test_a_start_is_taken_up(surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    keys = torch.arange(24)
    wide = GenAttack(eps=0.1, queries=300)(surface, images, truth, keys=keys)
    again = GenAttack(eps=0.1, queries=2, population=2)(surface, images, truth, keys=keys, start=wide.adversarial)
    assert (again.success >= wide.success).all() and wide.success.any()
