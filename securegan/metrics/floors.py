"""What a perfect generator would score: every figure between two halves of the real images."""

from torch import Tensor

from securegan.metrics.kernel import kernel_distance
from securegan.metrics.manifold import WIDE_NEIGHBOURS, manifold_scores
from securegan.metrics.moments import Moments
from securegan.metrics.quality import frechet_distance
from securegan.randomness import permutation


def floors(features: Tensor, *seed: int | str) -> dict[str, float]:
    """``fid``, ``kid``, ``precision``, ``recall``, ``density``, ``coverage`` of one random half against the other.

    They depend on the number of images; compare them with scores between sets of about ``N / 2``. What so few
    features ``(N, F)`` cannot give is left out.
    """
    order = permutation(len(features), "floor", *seed).to(features.device)
    half = len(features) // 2
    one, other = features[order[:half]], features[order[half : 2 * half]]
    if half < 2:
        return {}
    found = {
        "fid": frechet_distance(*(Moments(features.shape[1]).update(part) for part in (one, other))),
        "kid": kernel_distance(one, other),
    }
    if half > WIDE_NEIGHBOURS:
        found |= manifold_scores(one, other)._asdict()
    return found
