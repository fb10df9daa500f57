"""Class-conditional Gaussians with one tied covariance per layer, combined over layers.

Lee et al. 2018 (arXiv 1807.03888), eq. 1-2: M_l(x) = min_c (f_l(x) - mu_lc)^T Sigma_l^-1 (f_l(x) - mu_lc), with f_l the
spatial mean of feature map l. Their layer weights are a logistic regression on attacked images; here no attack is known
when the detector is fitted, so layers are combined without one: the root of the sum over layers of the squared softplus
of log M_l, standardised by the training images. One strange layer suffices. All statistics are float64; Sigma is shrunk
towards its mean variance and used through its Cholesky factor.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from securegan.metrics.moments import ClassMoments


def pool(features: Sequence[Tensor]) -> list[Tensor]:
    """Spatial means ``(N, D_l)`` in float64 of feature maps ``(N, D_l, H_l, W_l)`` or vectors ``(N, D_l)``."""
    return [f.double().mean(dim=(2, 3)) if f.dim() == 4 else f.double() for f in features]


class LayerGaussians(nn.Module):
    """One layer: class means and the whitening factor of the tied covariance."""

    means: Tensor
    factor: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(max(1, num_classes), dim, dtype=torch.float64))
        self.register_buffer("factor", torch.eye(dim, dtype=torch.float64))
        self.register_buffer("centre", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    def fit(self, moments: ClassMoments, shrinkage: float) -> None:
        """Take means and the shrunk tied covariance of ``moments``."""
        covariance = moments.covariance()
        dim = len(covariance)
        target = torch.eye(dim, dtype=torch.float64) * covariance.diagonal().mean().clamp_min(1e-12)
        shrunk = (1 - shrinkage) * covariance + shrinkage * target.to(covariance)
        self.means.copy_(moments.means)
        self.factor.copy_(torch.linalg.cholesky(shrunk))

    def distances(self, pooled: Tensor) -> Tensor:
        """``(N,)`` squared Mahalanobis distances to the nearest class mean; ``pooled`` is ``(N, D)`` float64."""
        white = torch.linalg.solve_triangular(self.factor, pooled.T, upper=False).T
        centres = torch.linalg.solve_triangular(self.factor, self.means.T, upper=False).T
        return (white[:, None] - centres[None]).square().sum(2).amin(1)

    def standardised(self, pooled: Tensor) -> Tensor:
        """``(N,)`` log distances in standard deviations from the training images' mean."""
        return (self.distances(pooled).clamp_min(1e-12).log() - self.centre) / self.scale


class LayeredMahalanobis(nn.Module):
    """Several layers combined into one score, and the threshold above which it is flagged."""

    threshold: Tensor
    fitted: Tensor

    def __init__(self, num_classes: int, dims: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LayerGaussians(num_classes, dim) for dim in dims)
        self.dims = tuple(dims)
        self.register_buffer("threshold", torch.full((), torch.inf, dtype=torch.float64))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def gaussians(self) -> list[LayerGaussians]:
        """The layers, from the image inwards."""
        return [cast(LayerGaussians, layer) for layer in self.layers]

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """``(N,)`` combined scores of pooled features, one ``(N, D_l)`` float64 a layer; higher is more anomalous."""
        standardised = torch.stack([layer.standardised(f) for layer, f in zip(self.gaussians(), pooled, strict=True)])
        return torch.nn.functional.softplus(standardised).square().sum(0).sqrt()
