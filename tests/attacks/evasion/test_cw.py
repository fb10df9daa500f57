"""Carlini & Wagner's attack: confidence, the search over c, and what ends early."""

import copy

import torch
from torch import Tensor, nn

from securegan.attacks.evasion.cw import CarliniWagner
from securegan.attacks.surfaces import LabelSurface, label_margin


def test_a_confident_success_has_the_margin_and_is_farther(
    victim: nn.Module, surface: LabelSurface, images: Tensor, truth: Tensor
) -> None:
    plain = CarliniWagner(eps=10.0)(surface, images, truth)
    sure = CarliniWagner(eps=10.0, confidence=0.5)(surface, images, truth)
    with torch.no_grad():
        margin = label_margin(copy.deepcopy(victim).eval()(sure.adversarial), truth)
    assert sure.success.all() and (margin >= 0.5 - 1e-5).all() and margin.median() < 0.55
    assert (sure.nearest > plain.nearest).all()


def test_the_search_over_c_finds_it_from_afar(surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    """A c that is too small finds next to nothing, one that is too great next to everything; both are mended."""
    images, truth = images[:8], truth[:8]
    best = CarliniWagner(eps=10.0)(surface, images, truth).nearest
    for first, share in ((1e-3, 0), (1e3, 1)):
        once = CarliniWagner(eps=10.0, first_c=first, searches=1)(surface, images, truth).nearest
        assert abs(once.isfinite().float().mean() - share) < 0.15
        found = CarliniWagner(eps=10.0, first_c=first, searches=9)(surface, images, truth).nearest
        assert found.isfinite().all() and (found / best).median() < 1.02


def test_ending_early_saves_passes_and_costs_little(surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    whole = CarliniWagner(eps=10.0, abort_early=False)(surface, images, truth)
    early = CarliniWagner(eps=10.0)(surface, images, truth)
    assert (whole.queries == 2 + 5 * 200).all()  # the clean decision, the first c, and every step
    assert early.queries.float().mean() < 0.6 * 1002 and len(early.queries.unique()) > 5
    assert (early.nearest / whole.nearest).median() < 1.01


def test_queries_count_the_forward_passes(victim: nn.Module, images: Tensor, truth: Tensor) -> None:
    rows: list[int] = []

    def recorded(x: Tensor) -> Tensor:
        rows.append(len(x))
        return victim(x)

    surface = LabelSurface(recorded, (victim,), "abcd")
    result = CarliniWagner(eps=10.0)(surface, images[:1], truth[:1])
    assert result.queries[0] == len(rows)
