"""Fréchet distance and Inception Score against closed forms and torch-fidelity's formulas."""

from itertools import pairwise

import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.transforms.v2.functional import gaussian_blur

from securegan.errors import UserError
from securegan.metrics.moments import Moments
from securegan.metrics.quality import InceptionScore, frechet_distance


def moments_of(mean: torch.Tensor, covariance: torch.Tensor) -> Moments:
    moments, n = Moments(len(mean)), 1001
    scatter = covariance.double() * (n - 1)
    moments.load_state_dict({"counts": torch.tensor([n]), "means": mean[None].double(), "scatter": scatter})
    return moments


def random_features(n: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_known_gaussians():
    a = moments_of(torch.tensor([0.0, 0.0]), torch.diag(torch.tensor([1.0, 4.0])))
    b = moments_of(torch.tensor([3.0, 4.0]), torch.diag(torch.tensor([9.0, 16.0])))
    # |m|^2 + (1 - 3)^2 + (2 - 4)^2
    assert frechet_distance(a, b) == pytest.approx(25 + 4 + 4, rel=1e-12)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)


@pytest.mark.parametrize(("n", "dim"), [(200, 10), (8, 50)], ids=["full rank", "singular"])
def test_distance_to_itself_is_zero(n, dim):
    moments = Moments(dim).update(random_features(n, dim))
    assert frechet_distance(moments, moments) == pytest.approx(0, abs=1e-6 * float(moments.covariance().trace()))


@pytest.mark.parametrize("n", [300, 12], ids=["full rank", "singular"])
def test_agrees_with_torch_fidelity(n):
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = random_features(n, 20), 1.5 * random_features(n, 20, seed=1) @ random_features(20, 20, seed=2) + 0.3
    theirs = fid.fid_statistics_to_metric(*(fid.fid_features_to_statistics(x.double()) for x in (a, b)), verbose=False)[
        "frechet_inception_distance"
    ]
    assert frechet_distance(Moments(20).update(a), Moments(20).update(b)) == pytest.approx(theirs, rel=1e-5)


def test_frechet_refuses_what_has_no_answer():
    one, many = Moments(3).update(torch.ones(1, 3)), Moments(3).update(torch.rand(9, 3))
    with pytest.raises(UserError, match="two images on each side"):
        frechet_distance(one, many)
    with pytest.raises(UserError, match="finite"):
        frechet_distance(Moments(3).update(torch.full((4, 3), torch.nan)), many)


def test_inception_score_of_one_hot_uniform_posteriors_is_k():
    logits = 1e4 * torch.eye(7).repeat(5, 1)
    assert InceptionScore(7).update(logits).compute() == pytest.approx(7, rel=1e-9)
    assert InceptionScore(7).update(torch.zeros(20, 7)).compute() == pytest.approx(1, rel=1e-12)
    with pytest.raises(UserError, match="at least one image"):
        InceptionScore(7).compute()


def test_inception_score_agrees_with_torch_fidelity_and_streams():
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    logits = 3 * random_features(90, 12)
    theirs = isc.isc_features_to_metric(logits, splits=1, shuffle=False)["inception_score_mean"]
    score = InceptionScore(12)
    for part in logits.split(40):
        score.update(part)
    assert score.compute() == pytest.approx(theirs, rel=1e-9)


def test_samples_of_known_gaussians_approach_the_closed_form():
    scale, shift = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([1.0, 0.0, -1.0])
    a, b = random_features(40_000, 3), random_features(40_000, 3, seed=1) * scale + shift
    expected = float(shift.square().sum() + (scale - 1).square().sum())
    assert frechet_distance(Moments(3).update(a), Moments(3).update(b)) == pytest.approx(expected, rel=0.02)


def test_distance_of_real_digits_rises_with_their_blur():
    digits = torch.tensor(load_digits().images[:500] / 16, dtype=torch.float32)[:, None]
    blurred = [digits, *(gaussian_blur(digits, [5, 5], [sigma, sigma]) for sigma in (0.4, 0.6, 1.0, 2.0))]
    moments = [Moments(64).update(images.flatten(1)) for images in blurred]
    found = [frechet_distance(moments[0], other) for other in moments]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert all(1.2 * less < more for less, more in pairwise(found)) and found[1] > 0.01
