"""The distortion-distortion curve of an attack towards target images; see :mod:`securegan.metrics.distortion`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.reconstruction import ReconstructionSurface
from securegan.attacks.shield import shielded
from securegan.evaluation.outcome import Outcome
from securegan.evaluation.surfaces import Inputs
from securegan.metrics.distortion import GRID, distortion_curve
from securegan.metrics.distributed import gather_rows

SHARES = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)  # of the radius that holds every image
IMAGES = 64
KEY = "robustness/auddc_reconstruction"


def distortion_figures(
    surface: ReconstructionSurface, attack: EvasionAttack, chunks: Sequence[Inputs], *, seed: int
) -> Outcome:
    """``auddc`` and its mean curve over the sound reconstructions among ``chunks``; all ranks take part."""
    outcome = Outcome()
    if attack.eps == 0 or attack.norm == "l0":
        outcome.notes.append(f"{KEY} is undefined: it grows a radius in L-inf or L2 from {attack.eps:g}.")
        return outcome
    keys, areas = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, dtype=torch.float64)]
    curves = [torch.zeros(0, GRID, dtype=torch.float64)]
    for chunk in chunks:
        right, area, curve = _of_chunk(surface, attack, chunk, seed)
        keys.append(chunk.keys[right.cpu()])
        areas.append(area[right].cpu())
        curves.append(curve[right].cpu())
    order = torch.cat(keys)
    area, curve = gather_rows(torch.cat(areas), order), gather_rows(torch.cat(curves), order)
    known = ~area.isnan()
    if not known.any():
        outcome.notes.append(f"{KEY} is undefined: there is no sound reconstruction that its target would change.")
        return outcome
    outcome.add_mean(KEY, area, "their targets are given back no nearer than they are")
    outcome.arrays["auddc_reconstruction"] = curve[known].mean(0).float().numpy()
    return outcome


def _of_chunk(
    surface: ReconstructionSurface, attack: EvasionAttack, chunk: Inputs, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Which clean decisions are right, and the curve of each input: each radius starts where the last one ended."""
    full = 1.0 if attack.norm == "linf" else float(chunk.x[0].numel() ** 0.5)
    start, distortion, distance = None, [], []
    target = surface.aims(chunk.reference)["target"]
    for share in SHARES:
        wider = attack.at(share * full / attack.eps)
        result = wider(surface, chunk.x, chunk.reference, purpose=(seed, "distortion"), keys=chunk.keys, start=start)
        start = result.adversarial
        distortion.append(_apart(start, chunk.x))
        distance.append(_apart(_outputs(surface, start, chunk.reference), target))
    found = distortion_curve(
        torch.stack(distortion, 1),
        torch.stack(distance, 1),
        span=_apart(chunk.x, target),
        clean=_apart(surface.outputs_clean[chunk.reference], target),
        reached=_apart(_outputs(surface, target, chunk.reference), target),
    )
    return result.clean_right, found.area, found.distance


def _outputs(surface: ReconstructionSurface, x: Tensor, reference: Tensor) -> Tensor:
    """Reconstructions of ``x`` as of images of the inputs' classes, which an adversary does not choose."""
    with shielded(surface.victims), torch.no_grad():
        return surface.outputs(x, reference)


def _apart(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() - b.double()).flatten(1).norm(dim=1)
