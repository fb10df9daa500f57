"""Attack success and what stands beside it: the denominators are here and nowhere else.

Attack success counts, of the inputs whose clean decision is right, those whose decision is wrong after a perturbation
that keeps to its bounds. Counting inputs that were wrong anyway, or perturbations that leave the ball, would flatter
the attack; dividing by all inputs would flatter the model.
"""

import math
from typing import Self

import torch
from torch import Tensor

from securegan.metrics.figures import FigureSet, empty


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share (Wilson 1927); ``(0, 1)`` where nothing was counted.

    >>> tuple(round(bound, 4) for bound in wilson(10, 50))
    (0.1124, 0.3304)
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n, got {successes} of {n}")
    if n == 0:
        return 0.0, 1.0
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    # At the ends the bound is exactly 0 or 1, which rounding would miss.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


class AttackTally:
    """Counts over batches, from which every robustness figure of one attack on one surface follows."""

    def __init__(self) -> None:
        # inputs, right when clean, lost to the attack, violations, watched by a detector, lost and not flagged
        self.counts = torch.zeros(6, dtype=torch.int64)

    def update(self, clean_right: Tensor, success: Tensor, valid: Tensor, flagged: Tensor | None = None) -> Self:
        """Adds a batch of boolean masks ``(N,)``.

        Args:
            clean_right: the decision on the clean input is right.
            success: the decision after the attack is wrong; inputs that were wrong before may be marked too.
            valid: the perturbation lies within eps and the input range.
            flagged: a detector flagged the attacked input; None where no detector watches.
        """
        masks = [mask.detach().bool().cpu() for mask in (clean_right, success, valid)]
        if flagged is not None:
            masks.append(flagged.detach().bool().cpu())
        if len({mask.shape for mask in masks}) != 1 or masks[0].dim() != 1:
            raise ValueError(f"want masks of one shape (N,), got {[tuple(mask.shape) for mask in masks]}")
        right, wrong_after, kept = masks[:3]
        lost = right & wrong_after & kept
        screened = len(right) if flagged is not None else 0
        unflagged = int((lost & ~masks[3]).sum()) if flagged is not None else 0
        batch = [len(right), int(right.sum()), int(lost.sum()), int((~kept).sum()), screened, unflagged]
        self.counts = self.counts + torch.tensor(batch)
        return self

    def figures(self, surface: str, *, adaptive: bool = False) -> FigureSet:
        """Every figure with its n and Wilson interval, under its full key.

        ``clean_accuracy``, ``attack_success``, ``robust_accuracy`` (right before and after, over all inputs),
        ``violations`` (a count) and, where a detector watched every input, ``system_attack_success`` (succeeded and
        not flagged), whose key ends in ``_nonadaptive`` unless the adversary attacked the detector too. A model that
        is right on no input has no attack success: it is left out and a note says so.
        """
        total, right, lost, violations, screened, unflagged = (int(count) for count in self.counts)
        out = empty()
        out["metrics"][f"robustness/violations_{surface}"] = float(violations)
        out["n"][f"robustness/violations_{surface}"] = total
        if screened not in (0, total):
            raise ValueError(f"a detector watched {screened} of {total} inputs; it must watch all or none")
        shares = [("clean_accuracy", "", right, total), ("robust_accuracy", "", right - lost, total)]
        shares.append(("attack_success", "", lost, right))
        if screened:
            shares.append(("system_attack_success", "" if adaptive else "_nonadaptive", unflagged, right))
        for name, suffix, successes, n in shares:
            key = f"robustness/{name}_{surface}{suffix}"
            if n == 0:
                out["notes"].append(f"{key} is undefined: it is a share of {_DENOMINATOR[name]}, and there is none.")
                continue
            out["metrics"][key] = successes / n
            out["n"][key] = n
            out["interval"][key] = wilson(successes, n)
        return out


_DENOMINATOR = {
    "clean_accuracy": "the inputs",
    "robust_accuracy": "the inputs",
    "attack_success": "the inputs whose clean decision is right",
    "system_attack_success": "the inputs whose clean decision is right",
}
