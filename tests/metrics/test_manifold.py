"""Precision, recall, density and coverage against torch-fidelity, their definitions and plain cases."""

import pytest
import torch

from securegan.errors import UserError
from securegan.metrics import manifold
from securegan.metrics.manifold import manifold_scores


def features(n: int, seed: int, dim: int = 6) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("block", [1024, 7])
def test_precision_and_recall_agree_with_torch_fidelity(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prc = pytest.importorskip("torch_fidelity.metric_prc")
    monkeypatch.setattr(manifold, "BLOCK", block)
    real, fake = features(90, 0), 0.7 * features(60, 1) + 0.5
    theirs = prc.calculate_precision_recall_full(fake.double(), real.double())
    ours = manifold_scores(real, fake)
    assert (ours.precision, ours.recall) == pytest.approx(theirs, rel=1e-6)  # theirs averages in float32
    assert 0 < ours.recall < ours.precision < 1  # a case that tells the two apart


def test_density_and_coverage_by_their_definition() -> None:
    real, fake = features(30, 0).double(), features(20, 1).double() + 0.3
    between = (real[:, None] - fake).norm(dim=2)
    own = (real[:, None] - real).norm(dim=2).sort(dim=1).values[:, 5]  # place 0 is the image itself
    held = between <= own[:, None]
    scores = manifold_scores(real, fake)
    assert scores.density == pytest.approx(float(held.sum()) / (5 * 20))
    assert scores.coverage == pytest.approx(float(held.any(1).double().mean()))


def test_what_each_of_them_notices() -> None:
    real = features(400, 0)
    same, far = manifold_scores(real, real), manifold_scores(real, features(400, 1) + 50)
    assert same.precision == same.recall == same.coverage == 1.0 and far == (0, 0, 0, 0)
    one_mode = manifold_scores(real, 0.05 * features(400, 2))
    assert one_mode.precision > 0.95 and one_mode.recall < 0.05 and one_mode.coverage < 0.3 < one_mode.density
    noisy = manifold_scores(real, torch.cat([features(200, 3), features(200, 4) + 20]))
    assert noisy.precision < 0.55 and noisy.coverage > 0.7


def test_copies_count_as_neighbours_and_nothing_is_lost_to_rounding() -> None:
    real = features(40, 0) + 1000.0  # a mean large beside the spread
    assert manifold_scores(real, real).precision == 1.0


def test_too_few_images_are_refused() -> None:
    with pytest.raises(UserError, match="6 images on each side, and there are 40 and 5"):
        manifold_scores(features(40, 0), features(5, 1))
