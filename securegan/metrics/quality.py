"""How good generated images are: Fréchet distance and Inception Score over the features of a named extractor.

``fid_inception`` and ``is_inception`` are kept for the reference network; any other extractor names itself in the key
(``fid_judge``), because figures of different extractors cannot be compared.
"""

from typing import Protocol, Self

import torch
from torch import Tensor

from securegan.errors import UserError
from securegan.metrics.distributed import all_sum
from securegan.metrics.moments import Moments


class FeatureExtractor(Protocol):
    """A frozen network that gives features for the Fréchet distance and logits for the Inception Score."""

    @property
    def key(self) -> str:
        """The extractor's part of a metric's name: ``judge`` in ``quality/fid_judge``."""

    @property
    def digest(self) -> str:
        """sha256 of the weights, hex."""

    @property
    def feature_dim(self) -> int:
        """F of :meth:`extract`."""

    @property
    def num_logits(self) -> int:
        """K of :meth:`extract`; 0 for a network that gives features alone, or reads something else than what an image
        shows: there is no Inception Score of it.
        """

    def to(self, device: torch.device, /) -> Self:
        """Move the network to where its images will be."""

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(N, F)`` and logits ``(N, K)``, float32, of images ``(N, C, H, W)`` in ``[0, 1]``."""


def frechet_distance(first: Moments, second: Moments) -> float:
    """The squared Fréchet distance of two Gaussians (Heusel et al. 2017, arXiv 1706.08500, eq. 6).

    ``|m1 - m2|^2 + tr S1 + tr S2 - 2 tr sqrt(A' S2 A)`` with ``S1 = A A'``. The matrix under the root is symmetric, so
    no imaginary part can arise, and singular covariances (fewer images than features) need no added diagonal.

    Raises:
        UserError: where either side has fewer than two images, or features that are not finite.
    """
    if min(first.n, second.n) < 2:
        raise UserError(f"a Fréchet distance needs two images on each side, and there are {first.n} and {second.n}.")
    s1, s2 = first.covariance(), second.covariance()
    if not (torch.isfinite(s1).all() and torch.isfinite(s2).all()):
        raise UserError("a Fréchet distance needs finite features, and some are infinite or not a number.")
    root = _factor(s1)
    inner = torch.linalg.eigvalsh(root.T @ s2 @ root) if root.shape[1] else s1.new_zeros(0)
    overlap = inner.clamp(min=0).sqrt().sum()
    distance = (first.mean - second.mean).square().sum() + s1.trace() + s2.trace() - 2 * overlap
    return max(0.0, float(distance))  # rounding may leave equal sets a hair below zero


def _factor(covariance: Tensor) -> Tensor:
    """``A`` of ``(dim, rank)`` with ``A A'`` the covariance; directions that hold only rounding noise are dropped."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values.abs().max() * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


class InceptionScore:
    """``exp E KL(p(y|x) || p(y))`` (Salimans et al. 2016, arXiv 1606.03498), streaming over logits ``(N, K)``.

    One split over all images, as torch-fidelity gives with ``isc_splits=1``; between 1 and K.
    """

    def __init__(self, num_classes: int) -> None:
        self.n = torch.zeros(1, dtype=torch.int64)
        self.negentropy = torch.zeros(1, dtype=torch.float64)  # sum of p log p over images and classes
        self.posterior = torch.zeros(num_classes, dtype=torch.float64)  # sum of p over images

    def update(self, logits: Tensor) -> Self:
        """Adds the unnormalised log posteriors ``(N, K)`` of N images."""
        log_p = logits.detach().to("cpu", torch.float64).log_softmax(dim=1)
        p = log_p.exp()
        self.n = self.n + len(p)
        self.negentropy = self.negentropy + torch.special.entr(p).sum().neg()
        self.posterior = self.posterior + p.sum(dim=0)
        return self

    def reduce(self) -> "InceptionScore":
        """A new score over the images of all ranks; every rank must call it."""
        whole = InceptionScore(len(self.posterior))
        whole.n, whole.negentropy = all_sum(self.n), all_sum(self.negentropy)
        whole.posterior = all_sum(self.posterior)
        return whole

    def compute(self) -> float:
        """The score.

        Raises:
            UserError: where no image was seen.
        """
        if not int(self.n):
            raise UserError("an Inception Score needs at least one image, and there is none.")
        marginal = torch.special.entr(self.posterior / self.n).sum()
        return float((self.negentropy / self.n + marginal).exp())
