"""A decision behind a detector: when the system is right, which gradient is followed, and what knowing both wins."""

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.evasion.apgd import APGD
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.guarded import Guarded
from securegan.attacks.shield import shielded
from securegan.attacks.surfaces import LabelSurface, Objective

ALONG = torch.randn(64, 8, generator=torch.Generator().manual_seed(5)) / 8


def score(x: Tensor) -> Tensor:
    """How far some projections of the image lie from those of a grey one."""
    return ((x.flatten(1) - 0.5) @ ALONG).double().norm(dim=1)


@pytest.fixture
def guarded(surface: LabelSurface, images: Tensor) -> Guarded:
    return Guarded(surface, score, float(score(images).quantile(0.9)), ())


def test_the_system_is_right_where_the_decision_is_or_the_detector_flags(
    guarded: Guarded, images: Tensor, truth: Tensor
) -> None:
    wrong = (truth + torch.arange(24) % 2) % 4
    with shielded(guarded.victims):
        view = guarded.assess(images, wrong, "ce")
    flagged, correct = score(images) > guarded.threshold, wrong == truth
    assert {(bool(f), bool(c)) for f, c in zip(flagged, correct, strict=True)} == {
        (f, c) for f in (0, 1) for c in (0, 1)
    }
    assert torch.equal(view.right, correct | flagged)
    assert ((view.margin > 0) == ~view.right).all()
    words = guarded.words(images, wrong)
    assert [word == "flagged" for word in words] == flagged.tolist()


def test_the_decisions_gradient_is_followed_until_it_is_lost_and_then_the_detectors(
    guarded: Guarded, surface: LabelSurface, images: Tensor, truth: Tensor
) -> None:
    reference = (truth + torch.arange(24) % 2) % 4  # every other decision is lost already

    def gradient(value: Tensor, x: Tensor) -> Tensor:
        return torch.autograd.grad(value.sum(), x)[0]

    with shielded(guarded.victims):
        x = images.clone().requires_grad_(True)
        found = gradient(guarded.assess(x, reference, "ce").value, x)
        inner = gradient(surface.assess(x, reference, "ce").value, x)
        detector = gradient(-score(x), x) / guarded.watch.scale
    assert torch.allclose(found[::2], inner[::2], atol=1e-6)
    assert torch.allclose(found[1::2], detector[1::2], atol=1e-6) and (found[1::2] != 0).any()


def test_who_knows_of_the_detector_loses_it_more_often_and_what_is_found_passes(
    guarded: Guarded, surface: LabelSurface, victim: nn.Module, images: Tensor, truth: Tensor
) -> None:
    attack, keys = PGD(eps=0.08, steps=15, restarts=2), torch.arange(24)
    unaware = attack(surface, images, truth, keys=keys)
    aware = attack(guarded, images, truth, keys=keys)
    passed = unaware.success & (score(unaware.adversarial) <= guarded.threshold)
    assert aware.success.sum() > passed.sum() > 0
    with shielded((victim,)), torch.no_grad():
        lost = victim(aware.adversarial).argmax(1) != truth
    assert torch.equal(aware.success, lost & (score(aware.adversarial) <= guarded.threshold) & aware.clean_right)


@pytest.mark.parametrize("objective", ["ce", "dlr", "margin"])
def test_an_attack_that_compares_values_gains_by_a_larger_radius_too(
    guarded: Guarded, images: Tensor, truth: Tensor, objective: Objective
) -> None:
    """Else it would go back to where the decision is still right, and the more so the larger the radius."""
    rates = [
        int(
            APGD(eps=eps, steps=30, objectives=[objective])(guarded, images, truth, keys=torch.arange(24)).success.sum()
        )
        for eps in (0.08, 0.2, 0.4)
    ]
    assert rates == sorted(rates) and rates[-1] == 24


def test_a_detector_that_flags_nothing_changes_nothing(surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    attack, keys = PGD(eps=0.05, steps=8, restarts=1), torch.arange(24)
    blind = Guarded(surface, score, 1e6, ())
    plain, behind = attack(surface, images, truth, keys=keys), attack(blind, images, truth, keys=keys)
    assert torch.equal(plain.success, behind.success)
