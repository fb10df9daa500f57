"""Success against the radius: it rises, starts where the last search ended, and agrees with the nearest successes."""

import torch
from torch import Tensor, nn

from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.surfaces import LabelSurface
from securegan.evaluation.radii import success_by_radius
from securegan.evaluation.robustness import FORGETFUL
from securegan.evaluation.surfaces import Inputs

IMAGES = 0.5 + 0.1 * torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(1)).clamp(-3, 3)
WEIGHT = torch.randn(16, generator=torch.Generator().manual_seed(2))


class Halfspace(nn.Module):
    """Two classes on either side of a plane through the grey image."""

    def forward(self, x: Tensor) -> Tensor:
        side = (x.flatten(1) - 0.5) @ WEIGHT
        return torch.stack([-side, side], 1)


def test_the_curve_is_the_closed_form_of_a_halfspace_and_counts_the_right_inputs_alone() -> None:
    victim = Halfspace()
    surface = LabelSurface(victim, (victim,), "ab")
    truth = victim(IMAGES).argmax(1)
    truth[:5] = 1 - truth[:5]  # wrong before any attack
    chunks = [Inputs(keys, IMAGES[keys], truth[keys]) for keys in (torch.arange(0, 25), torch.arange(25, 40))]
    attack = PGD(eps=0.02, steps=10, restarts=1)
    factors = [2.0, 0.5, 1.0]  # in any order
    lost, right = success_by_radius(surface, attack, chunks, factors, seed=0, memory=FORGETFUL)
    assert right.tolist() == [False] * 5 + [True] * 35
    needed = ((IMAGES.flatten(1) - 0.5) @ WEIGHT).abs() / WEIGHT.abs().sum()  # in L-inf
    for column, eps in enumerate((0.01, 0.02, 0.04)):
        sure = (needed - eps).abs() > 1e-5
        assert torch.equal(lost[right & sure, column], (needed < eps)[right & sure])
    assert (lost[:, 1:] >= lost[:, :-1]).all() and 0 < lost[:, 0].sum() < lost[:, 2].sum()


def test_what_survives_is_searched_from_where_the_last_search_ended() -> None:
    """With one step of a tenth of the radius, only searches that go on get anywhere."""
    victim = Halfspace()
    surface = LabelSurface(victim, (victim,), "ab")
    chunks = [Inputs(torch.arange(40), IMAGES, victim(IMAGES).argmax(1))]
    attack = PGD(eps=0.1, steps=1, alpha=0.01, restarts=1, random_start=False)
    once, _ = success_by_radius(surface, attack, chunks, [1.0], seed=0, memory=FORGETFUL)
    often, _ = success_by_radius(surface, attack, chunks, [0.8, 0.9, 1.0], seed=0, memory=FORGETFUL)
    assert int(often[:, -1].sum()) > int(once.sum())


def test_a_random_target_stays_the_same_at_every_radius() -> None:
    """At equal radii a search that starts where the last one ended finds the same, if it aims at the same."""
    torch.manual_seed(0)
    victim = nn.Sequential(nn.Flatten(), nn.Linear(16, 6))
    surface = LabelSurface(victim, (victim,), "abcdef")
    with torch.no_grad():
        chunks = [Inputs(torch.arange(40), IMAGES, victim(IMAGES).argmax(1))]
    attack = PGD(eps=0.1, steps=30, restarts=1, objectives=("margin",), targeted="random")
    lost, _ = success_by_radius(surface, attack, chunks, [1.0, 1.0, 1.0], seed=0, memory=FORGETFUL)
    assert torch.equal(lost[:, 0], lost[:, 2]) and 0 < lost[:, 0].sum() < 40
