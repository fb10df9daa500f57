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
    gap, error = _paired(strong, weak)
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


def gains_little(base: Tensor, longer: Tensor, *, name: str, surface: str, most: float = 0.01) -> Check:
    """A costlier attack (twice the steps or restarts) wins no more: else the first had not converged and flatters.

    What counts is the net gain, since two cold runs differ by chance either way, less two paired standard errors: a
    gain that is certain at last is a violation from one point on, whatever n; one that n cannot tell from chance is
    none.

    Args:
        base: ``(N,)`` bool, success of the attack.
        longer: ``(N,)`` bool, success of the costlier one on the same examples.
        name: the check's name.
        surface: the surface attacked.
        most: net share of the examples that may be won for certain.
    """
    n = len(base)
    if n == 0:
        return _unjudged(name, surface)
    gap, error = _paired(longer, base)
    rates = f"{float(base.double().mean()):.3f} to {float(longer.double().mean()):.3f}"
    return Check(
        name,
        surface,
        gap - TOLERANCE * error <= most + 1e-12,
        f"{rates}, allowed {most:.2f} and {TOLERANCE * error:.3f} of chance, n = {n}",
    )


def finds_all_of(stronger: Tensor, weaker: Tensor, *, name: str, surface: str, most: float = 0.01) -> Check:
    """Hardly an example is found by the weaker attack alone, whatever the stronger one finds besides.

    Rates would hide it: a white-box attack that wins a fifth more and misses a tenth looks the stronger.

    Args:
        stronger: ``(N,)`` bool, success of the attack that knows more.
        weaker: ``(N,)`` bool, of the one that knows less (random draws, a black box, a transfer).
        name: the check's name.
        surface: the surface attacked.
        most: share that may be missed; two examples always may.
    """
    n = len(stronger)
    if n == 0:
        return _unjudged(name, surface)
    missed = int((weaker & ~stronger).sum())
    found = f"{int(weaker.sum())} found, {missed} of them by it alone"
    return Check(name, surface, missed <= max(2, most * n), f"{found}, n = {n}")


def at_most(mask: Tensor, said: str, *, name: str, surface: str, most: float = 0.0) -> Check:
    """No more than a share ``most`` of the examples has a fault; ``said`` follows their count in the detail.

    Where some may, two always may: of few examples one is a large share.
    """
    n, faults = len(mask), int(mask.sum())
    if n == 0:
        return _unjudged(name, surface)
    return Check(name, surface, faults <= (max(2, most * n) if most else 0), f"{faults} of {n} {said}")


def at_chance(kept: Tensor, reference: Tensor, *, name: str, surface: str) -> Check:
    """Under a radius that turns any image grey, no more decisions stay right than those of a constant answer.

    Args:
        kept: ``(N,)`` bool, right before and after the attack.
        reference: ``(N,)`` the right decisions, whose commonest sets chance; two standard errors are allowed.
        name: the check's name.
        surface: the surface attacked.
    """
    n = len(kept)
    if n == 0:
        return _unjudged(name, surface)
    rate, chance = float(kept.double().mean()), int(reference.unique(return_counts=True)[1].max()) / n
    allowed = chance + TOLERANCE * math.sqrt(chance * (1 - chance) / n)
    return Check(name, surface, rate <= allowed, f"{rate:.3f} of {n} still right, chance is {chance:.3f}")


def settled(late: Tensor, total: Tensor, *, name: str, surface: str, most: float = 0.05) -> Check:
    """The search had come to rest (Pintor et al. 2022, arXiv 2106.09947, indicator of a non-converging attack).

    Args:
        late: ``(N,)`` rise of the best objective in the last steps, of the examples that withstood (else NaN).
        total: ``(N,)`` rise in all.
        name: the check's name.
        surface: the surface attacked.
        most: share of the rise, over all these examples, that may fall to the last steps; two standard errors of it
            are allowed.
    """
    there = total.isfinite() & late.isfinite()
    n, end, whole = int(there.sum()), late[there].double(), total[there].double()
    if n < 2:
        return Check(name, surface, None, "no two examples withstood the attack")
    rise = float(whole.sum())
    if rise <= 0:
        return Check(name, surface, False, f"the objective did not rise at all, n = {n} that withstood")
    share = float(end.sum()) / rise
    error = float((end - share * whole).std()) * math.sqrt(n) / rise  # of a ratio of means
    detail = f"{share:.3f} of the rise, allowed {most:.2f} and {TOLERANCE * error:.3f} of chance"
    return Check(name, surface, share - TOLERANCE * error <= most, f"{detail}, n = {n} that withstood")


def _paired(first: Tensor, second: Tensor) -> tuple[float, float]:
    """The difference of two rates over the same examples, and its standard error."""
    won, lost = int((first & ~second).sum()), int((second & ~first).sum())
    n = len(first)
    gap = (won - lost) / n
    # The variance of n differences that are -1, 0 or 1, over n.
    return gap, math.sqrt(max(0.0, (won + lost) / n - gap * gap) / n)


def _unjudged(name: str, surface: str) -> Check:
    """Without examples nothing is shown: the check has neither passed nor failed."""
    return Check(name, surface, None, "no example whose clean decision is right, so nothing could be judged")
