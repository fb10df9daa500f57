"""Judgements of the gradient-masking checks: a model that only hides its gradients looks robust and is not.

After Carlini et al. 2019 (arXiv 1902.06705, section 5). Success masks come from cold, independent attack runs over
the same examples; "never weaker" is judged per example with a tolerance of two paired standard errors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

TOLERANCE = 2.0  # paired standard errors


@dataclass(frozen=True)
class Check:
    """One check of one surface: did it pass, and the rates that say so."""

    name: str
    surface: str
    passed: bool | None  # None where there was nothing to judge
    detail: str


def not_weaker(stronger: Tensor, weaker: Tensor, *, name: str, surface: str) -> Check:
    """The attack that must be stronger succeeds no less often than the weaker one.

    Args:
        stronger: ``(N,)`` bool, success of the attack that should win (more steps, larger eps, gradients).
        weaker: ``(N,)`` bool, success of the other on the same examples in the same order.
        name: the check's name, such as ``noise_weaker_than_gradient``.
        surface: the surface attacked.
    """
    if stronger.shape != weaker.shape or stronger.dim() != 1:
        raise ValueError(f"want two masks (N,), got {tuple(stronger.shape)} and {tuple(weaker.shape)}")
    n = len(stronger)
    if n == 0:
        return _unjudged(name, surface)
    strong, weak = stronger.bool().cpu(), weaker.bool().cpu()
    won, lost = int((strong & ~weak).sum()), int((weak & ~strong).sum())
    gap = (won - lost) / n
    # The variance of n differences that are -1, 0 or 1, over n.
    error = math.sqrt(max(0.0, (won + lost) / n - gap * gap) / n)
    rates = float(weak.double().mean()), float(strong.double().mean())
    detail = f"{rates[0]:.3f} <= {rates[1]:.3f}" if gap >= 0 else f"{rates[0]:.3f} > {rates[1]:.3f}"
    return Check(name, surface, gap >= -TOLERANCE * error, f"{detail}, tolerance {TOLERANCE * error:.3f}, n = {n}")


def never_weaker(masks: Sequence[Tensor], settings: Sequence[str], *, name: str, surface: str) -> Check:
    """Each of a series of attacks of growing strength (eps, steps) is no weaker than the one before it.

    Args:
        masks: success masks ``(N,)``, weakest attack first.
        settings: what distinguishes each, for the detail, such as ``("eps 0.05", "eps 0.1")``.
        name: the check's name.
        surface: the surface attacked.
    """
    if len(masks) != len(settings) or len(masks) < 2:
        raise ValueError(f"want a setting for each of two or more masks, got {len(masks)} and {len(settings)}")
    if not len(masks[0]):
        return _unjudged(name, surface)
    steps = [not_weaker(stronger, weaker, name=name, surface=surface) for weaker, stronger in pairwise(masks)]
    rates = ", ".join(
        f"{setting}: {float(mask.double().mean()):.3f}" for setting, mask in zip(settings, masks, strict=True)
    )
    return Check(name, surface, all(step.passed for step in steps), f"{rates}, n = {len(masks[0])}")


def reaches_all(success: Tensor, *, name: str, surface: str, share: float = 0.99) -> Check:
    """An attack without bounds succeeds on (nearly) every example: ``share`` of them, less two standard errors."""
    n = len(success)
    if n == 0:
        return _unjudged(name, surface)
    rate = float(success.double().mean())
    tolerance = TOLERANCE * math.sqrt(share * (1 - share) / n)
    return Check(name, surface, rate >= share - tolerance, f"{rate:.3f} of {n}, wanted {share:.2f}")


def gains_little(base: Tensor, longer: Tensor, *, name: str, surface: str, most: float = 0.05) -> Check:
    """Twice the steps may not win many more examples: else the attack had not converged and its figure flatters.

    Args:
        base: ``(N,)`` bool, success of the attack.
        longer: ``(N,)`` bool, success of the longer one on the same examples.
        name: the check's name.
        surface: the surface attacked.
        most: share of the examples that may be won.
    """
    n = len(base)
    if n == 0:
        return _unjudged(name, surface)
    gain = int((longer & ~base).sum()) / n
    return Check(name, surface, gain <= most, f"gain {gain:.3f}, n = {n}")


def _unjudged(name: str, surface: str) -> Check:
    """Without examples nothing is shown: the check has neither passed nor failed."""
    return Check(name, surface, None, "no example whose clean decision is right, so nothing could be judged")
