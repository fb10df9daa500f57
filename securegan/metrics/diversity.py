"""Are a generator's samples as different from each other as real images are?

A generator whose mode has collapsed can keep its attack figures and its fidelity high while it emits one image.
"""

import math

from securegan.errors import UserError
from securegan.metrics.moments import ClassMoments, Moments


def spread(moments: Moments | ClassMoments) -> float:
    """The root mean square distance between two different rows of features.

    For n rows this is exactly ``sqrt(2 tr S)`` with the sample covariance S, so it streams and reduces with the
    moments. Of :class:`ClassMoments` it is the distance between two rows of one class (approximately: one degree of
    freedom is taken off for each class seen).
    """
    seen = int((moments.counts > 0).sum()) if isinstance(moments, ClassMoments) else 1
    return math.sqrt(2 * float(moments.covariance(ddof=max(seen, 1)).trace()))


def diversity(samples: Moments | ClassMoments, real: Moments | ClassMoments) -> float:
    """The samples' spread over that of real images: about 1 for a good generator, towards 0 as its modes collapse.

    Give :class:`ClassMoments` of both to notice a conditional generator that has one image for each class.

    Raises:
        UserError: where the real images have no spread to compare with, or there are too few rows.
    """
    base = spread(real)
    if base == 0:
        raise UserError("diversity is relative to real images, and all real images have the same features.")
    return spread(samples) / base


def repeats(moments: ClassMoments) -> bool:
    """Whether any class has more than one row, without which there is no spread within classes."""
    return moments.n > int((moments.counts > 0).sum())
