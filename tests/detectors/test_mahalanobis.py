"""Mahalanobis scores: the textbook distance, class minima, calibrated thresholds, gradients."""

import numpy as np
import torch
from sklearn.covariance import EmpiricalCovariance

from securegan.detectors.mahalanobis.torch_model import LayeredMahalanobis, LayerGaussians, pool
from securegan.metrics.moments import ClassMoments


def features(n: int, dim: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=g)
    mix = torch.randn(dim, dim, generator=g, dtype=torch.float64)
    centres = 5 * torch.randn(classes, dim, generator=g, dtype=torch.float64)
    return centres[labels] + torch.randn(n, dim, generator=g, dtype=torch.float64) @ mix, labels


def test_one_class_equals_scikit_learn() -> None:
    x, _ = features(400, 6, 1)
    layer = LayerGaussians(1, 6)
    layer.fit(ClassMoments(1, 6).update(x, torch.zeros(400, dtype=torch.int64)), shrinkage=0.0)
    expected = EmpiricalCovariance().fit(x.numpy()).mahalanobis(x.numpy())
    assert np.allclose(layer.distances(x).numpy(), expected, rtol=1e-8)


def test_classes_share_one_covariance_and_the_nearest_counts() -> None:
    x, y = features(900, 5, 3)
    layer = LayerGaussians(3, 5)
    layer.fit(ClassMoments(3, 5).update(x, y), shrinkage=0.0)
    means = torch.stack([x[y == k].mean(0) for k in range(3)])
    centred = x - means[y]
    inverse = torch.linalg.inv(centred.T @ centred / len(x))
    gaps = x[:, None] - means[None]
    expected = torch.einsum("nkd,de,nke->nk", gaps, inverse, gaps).amin(1)
    assert torch.allclose(layer.distances(x), expected, rtol=1e-8)


def test_shrinkage_makes_a_singular_covariance_usable() -> None:
    x = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer = LayerGaussians(1, 12)
    layer.fit(ClassMoments(1, 12).update(x, torch.zeros(5, dtype=torch.int64)), shrinkage=0.1)
    assert layer.distances(x).isfinite().all()


def test_an_anomaly_in_one_layer_raises_the_combined_score_and_gradients_flow() -> None:
    model = LayeredMahalanobis(1, [4, 4])
    x, _ = features(300, 4, 1)
    for layer in model.gaussians():
        layer.fit(ClassMoments(1, 4).update(x, torch.zeros(300, dtype=torch.int64)), shrinkage=0.01)
        logs = layer.distances(x).log()
        layer.centre.copy_(logs.mean())
        layer.scale.copy_(logs.std())
    usual = model([x, x])
    strange = x[:1].clone().requires_grad_(True)
    score = model([strange + 100, x[:1]])
    assert score.item() > usual.max()
    (gradient,) = torch.autograd.grad(score.sum(), strange)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_pooling_averages_over_space_in_float64() -> None:
    maps = torch.rand(2, 3, 4, 4)
    pooled = pool([maps, maps.flatten(1)])
    assert pooled[0].dtype == torch.float64 and torch.allclose(pooled[0].float(), maps.mean((2, 3)))
    assert pooled[1].shape == (2, 48)
