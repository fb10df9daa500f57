"""A mixture of Gaussians over an encoder's codes, from which a decoder is sampled.

After Ghosh et al. 2020 (arXiv 1903.12436, section 4). The codes of real images do not fill the prior; a density fitted
to them after training is what makes a VAE's samples competitive. The mixture is a function of standard normal draws:
the first coordinate chooses the component, the others are moved and scaled into it. So codes stay ``N(0, I)`` for every
other part: sampling, attacks, interpolation, export.
"""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from securegan.randomness import seed_of

REGULARISATION = 1e-4  # added to each covariance's diagonal
STEPS = 100  # of expectation maximisation at most
CODES = 8  # a coordinate and component at least: at fewer, covariances fit the codes seen and not those to come


class LatentMixture(nn.Module):
    """One mixture a class (one for unlabelled data); a standard normal until it is fitted."""

    cumulative: Tensor  # (K, M) component probabilities, summed up
    means: Tensor  # (K, M, d)
    factors: Tensor  # (K, M, d, d) lower Cholesky factors of the covariances

    def __init__(self, num_classes: int, components: int, latent_dim: int) -> None:
        super().__init__()
        k = max(1, num_classes)
        self.components, self.latent_dim = components, latent_dim
        shares = torch.arange(1, components + 1) / components
        self.register_buffer("cumulative", shares.repeat(k, 1))
        self.register_buffer("means", torch.zeros(k, components, latent_dim))
        self.register_buffer("factors", torch.eye(latent_dim).repeat(k, components, 1, 1))

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Codes ``(N, d)`` for standard normal ``z (N, d + 1)`` and, for labelled data, classes ``(N,)``."""
        k = torch.zeros_like(z[:, 0], dtype=torch.int64) if labels is None else labels
        uniform = torch.special.ndtr(z[:, :1].detach())
        component = (uniform > self.cumulative[k]).sum(1).clamp_max(self.components - 1)
        return self.means[k, component] + (self.factors[k, component] @ z[:, 1:, None]).squeeze(2)

    @torch.no_grad()
    def fit(self, codes: Tensor, labels: Tensor, seed: int) -> None:
        """Fit to ``codes (N, d)`` of classes ``(N,)``; each gets as many components as its codes bear out."""
        for k in range(len(self.means)):
            own = codes[labels == k] if len(self.means) > 1 else codes
            if len(own) < 2:
                continue
            most = max(1, min(self.components, len(own) // (CODES * self.latent_dim)))
            mixture = _fitted(own.double().cpu().numpy(), most, seed_of(seed, "mixture", k) % 2**32)
            components = len(mixture.weights_)
            shares = np.ones(self.components)
            shares[:components] = np.cumsum(mixture.weights_)
            self.cumulative[k] = torch.from_numpy(shares)
            self.means[k, :components] = torch.from_numpy(mixture.means_)
            self.factors[k, :components] = torch.from_numpy(np.linalg.cholesky(mixture.covariances_))


def _fitted(codes: NDArray[np.float64], most: int, seed: int) -> GaussianMixture:
    """The mixture of 1, 2, 4 and so on, ``most`` at most, components after which Schwarz's criterion gets worse."""
    best: GaussianMixture | None = None
    lowest, components = np.inf, 1
    while components <= most:
        mixture = GaussianMixture(components, reg_covar=REGULARISATION, max_iter=STEPS, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(codes)
        criterion = mixture.bic(codes)
        if best is not None and criterion >= lowest:
            break
        best, lowest = mixture, criterion
        components = max(components + 1, min(2 * components, most))
    return best


class MixtureDecoder(nn.Module):
    """A decoder whose codes come from a mixture."""

    def __init__(self, mixture: LatentMixture, decoder: nn.Module) -> None:
        super().__init__()
        self.mixture, self.decoder = mixture, decoder

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Images ``(N, C, H, W)`` in ``[0, 1]`` for standard normal ``z (N, d + 1)`` and classes ``(N,)``."""
        return self.decoder(self.mixture(z, y), y)
