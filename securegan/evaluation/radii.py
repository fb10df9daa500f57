"""Attack success against the radius: one curve a surface.

An attack within a radius is run at growing ones. What wins at one wins at every larger one, and the examples that
survive are searched from where the last search ended, so that the curve rises by construction. An attack that looks for
the nearest success gives the whole curve at once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from securegan.attacks.engine import Memory
from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.spaces import TOLERANCE, per_example
from securegan.attacks.surfaces import Surface
from securegan.evaluation.outcome import Outcome
from securegan.evaluation.robustness import Attacked
from securegan.evaluation.surfaces import Inputs
from securegan.metrics.distributed import gather_rows


def success_by_radius(
    surface: Surface,
    attack: EvasionAttack,
    chunks: Sequence[Inputs],
    factors: Sequence[float],
    *,
    seed: int,
    memory: Memory,
) -> tuple[Tensor, Tensor]:
    """``(N, k)`` success at ``factors`` of the attack's radius, and ``(N,)`` clean right; all ranks take part."""
    keys = [torch.zeros(0, dtype=torch.int64)]
    rows = [torch.zeros(0, len(factors), dtype=torch.bool)]
    rights = [torch.zeros(0, dtype=torch.bool)]
    for chunk in chunks:
        start, lost = chunk.x, torch.zeros(len(chunk.x), dtype=torch.bool, device=chunk.x.device)
        columns, right = [], torch.zeros_like(lost)
        for number, factor in enumerate(sorted(factors)):
            open_ = (~lost).nonzero().squeeze(1)
            if len(open_):
                result = memory.run(
                    attack.at(factor),
                    surface,
                    chunk.x[open_],
                    chunk.reference[open_],
                    purpose=(seed, "attack", surface.name),
                    keys=chunk.keys[open_.to(chunk.keys.device)],
                    start=start[open_] if number else None,
                )
                start = start.clone()
                start[open_] = torch.where(per_example(result.clean_right, chunk.x), result.adversarial, start[open_])
                lost = lost.clone()
                lost[open_] = result.success
                right[open_] |= result.clean_right
            columns.append(lost.cpu())
        keys.append(chunk.keys.cpu())
        rows.append(torch.stack(columns, 1))
        rights.append(right.cpu())
    order = torch.cat(keys)
    return gather_rows(torch.cat(rows), order), gather_rows(torch.cat(rights), order)


def radius_figures(
    surface: Surface,
    attack: EvasionAttack,
    attacked: Attacked,
    chunks: Sequence[Inputs],
    factors: Sequence[float],
    *,
    seed: int,
    memory: Memory,
) -> Outcome:
    """The curve as an array ``radius_<surface>`` of rows (radius, share lost, n), where there is one."""
    outcome = Outcome()
    if attack.minimal:
        reached = attacked.nearest[attacked.clean_right]
        distances = reached[reached.isfinite()].sort().values
        radii = distances.unique()
        success = [float((reached <= radius).double().mean()) for radius in radii]
        if len(distances):
            outcome.metrics[f"robustness/median_nearest_{surface.name}"] = float(distances.median())
            outcome.n[f"robustness/median_nearest_{surface.name}"] = len(distances)
        n = len(reached)
    elif factors:
        lost, right = success_by_radius(surface, attack, chunks, factors, seed=seed, memory=memory)
        radii = torch.tensor([attack.at(factor).threat(surface).eps for factor in sorted(factors)])
        n = int(right.sum())
        within = attacked.distance[:, None] <= radii.float() * (1 + TOLERANCE)
        lost = lost | (
            attacked.success[:, None] & within
        )  # what the attack itself found counts at every radius it fits
        success = lost[right].double().mean(0).tolist() if n else []
    else:
        return outcome
    if success:
        curve = [(float(radius), share, float(n)) for radius, share in zip(radii, success, strict=True)]
        outcome.arrays[f"radius_{surface.name}"] = torch.tensor(curve).numpy()
    return outcome
