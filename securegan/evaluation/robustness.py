"""Attack every surface and count: ASR with its denominator, robust accuracy, the random baseline, system ASR."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from securegan.attacks.engine import Memory, random_perturbation, start_noise
from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.guarded import SHARES, Guarded
from securegan.attacks.shield import shielded
from securegan.attacks.surfaces import Surface
from securegan.detectors.base import Detector
from securegan.evaluation.outcome import Outcome
from securegan.evaluation.surfaces import Inputs, score_of
from securegan.metrics.distributed import gather_rows
from securegan.metrics.robustness import AttackTally, wilson
from securegan.models.base import GenerativeModule

EXAMPLES = 8
FORGETFUL = Memory()
DRAWS = 20  # of the best-of-many random baseline of codes
AWARE = "adaptive_"  # begins the names of examples of an adversary who knows of the detector


@dataclass
class Attacked:
    """Per-example outcome of one attack on one surface, of all ranks, in key order."""

    keys: Tensor
    reference: Tensor
    clean_right: Tensor
    success: Tensor
    valid: Tensor
    random_wrong: Tensor
    distance: Tensor
    queries: Tensor
    nearest: Tensor
    any_random_wrong: Tensor | None = None  # of DRAWS perturbations, where so many were drawn
    scores: dict[str, Tensor] = field(default_factory=dict)  # detector scores of clean/noise/adversarial images
    beside: dict[str, Tensor] = field(default_factory=dict)  # what the surface says beside
    examples: dict[str, np.ndarray] = field(default_factory=dict)  # of rank 0's first chunks


def attack_surface(
    surface: Surface,
    attack: EvasionAttack,
    chunks: Sequence[Inputs],
    module: GenerativeModule,
    *,
    seed: int,
    detector: Detector | None = None,
    memory: Memory = FORGETFUL,
    many_draws: bool = False,
) -> Attacked:
    """Run ``attack`` on this rank's ``chunks`` and gather what happened; all ranks take part.

    With ``many_draws`` the best of ``DRAWS`` random perturbations stands beside the one.
    """
    columns = _no_rows(surface, watched=detector is not None, many_draws=many_draws)
    examples: dict[str, np.ndarray] = {}
    for chunk in chunks:
        purpose = (seed, "attack", surface.name)
        result = memory.run(attack, surface, chunk.x, chunk.reference, purpose=purpose, keys=chunk.keys)
        threat = attack.threat(surface)
        noise = start_noise(chunk.x, threat.norm, (seed, "noise", surface.name), chunk.keys)
        ball = surface.space.ball(chunk.x, threat.eps, threat.norm)
        aimed = attack.aimed(surface, chunk.x, chunk.reference, purpose, chunk.keys)
        noisy, random_wrong = random_perturbation(aimed[0], chunk.x, aimed[1], ball, noise)
        row = {
            "keys": chunk.keys,
            "reference": chunk.reference,
            "clean_right": result.clean_right,
            "success": result.success,
            "valid": result.valid,
            "random_wrong": random_wrong,
            "distance": result.distance,
            "queries": result.queries,
            "nearest": result.nearest,
        }
        if many_draws:
            any_wrong = random_wrong.clone()
            for draw in range(1, DRAWS):
                noise = start_noise(chunk.x, threat.norm, (seed, "noise", surface.name, draw), chunk.keys)
                any_wrong |= random_perturbation(aimed[0], chunk.x, aimed[1], ball, noise)[1]
            row["any_random_wrong"] = any_wrong
        if detector is not None and surface.space.name == "pixels":
            row["score:clean"] = detector.scores(module, chunk.x)
            row["score:noise"] = detector.scores(module, noisy)
            row["score:adversarial"] = detector.scores(module, result.adversarial)
        elif detector is not None:
            row["score:adversarial"] = detector.scores(module, _images(surface, result.adversarial, chunk.reference))
        if surface.beside_names:
            row |= {f"beside:{name}": values for name, values in _beside(surface, chunk, result.adversarial).items()}
        for name, values in row.items():
            columns[name].append(values.detach().cpu())
        shown = result.clean_right if surface.aims(chunk.reference) else result.success
        if not examples and shown.any():
            examples = _examples(surface, chunk, result.adversarial, shown)
            lost = result.success[shown.nonzero().squeeze(1)[:EXAMPLES]]
            examples[f"{surface.name}_lost"] = lost.cpu().numpy()
    gathered = _gather(columns)
    plain = {name: values for name, values in gathered.items() if ":" not in name}
    return Attacked(**plain, scores=_named(gathered, "score"), beside=_named(gathered, "beside"), examples=examples)


def behind(surface: Surface, module: GenerativeModule, detector: Detector) -> Guarded:
    """A decision of ``module`` on images and its detector, as one system."""
    return Guarded(surface, score_of(detector, module), detector.threshold, module.victims())


def adaptive_figures(
    surface: Surface,
    attack: EvasionAttack,
    chunks: Sequence[Inputs],
    module: GenerativeModule,
    detector: Detector,
    unaware: Attacked,
    *,
    seed: int,
    memory: Memory = FORGETFUL,
) -> Outcome:
    """System attack success of an adversary who attacks ``surface`` and the detector together; all ranks take part.

    The denominator is that of the attack ``unaware`` of the detector, whose unflagged successes count as well: who
    knows of the detector may also ignore it. Smaller radii are searched too, with steps in proportion: what is needed
    to be wrong and unseen is often less than the decision alone would allow. The examples are of the largest share of
    the radius at which some succeeded.
    """
    guarded = behind(surface, module, detector)
    lost = unaware.success & (unaware.scores["adversarial"] <= detector.threshold)
    examples: dict[str, np.ndarray] = {}
    for share in (1.0,) if attack.minimal else SHARES:
        searched = attack_surface(guarded, attack.at(share), chunks, module, seed=seed, memory=memory)
        lost = lost | searched.success
        examples = examples or searched.examples
    tally = AttackTally().update(unaware.clean_right, lost, torch.ones_like(lost), torch.zeros_like(lost))
    found, key = tally.figures(surface.name, adaptive=True), f"robustness/system_attack_success_{surface.name}"
    outcome = Outcome(examples={f"{AWARE}{name}": values for name, values in examples.items()})
    if key in found["metrics"]:
        outcome.metrics[key], outcome.n[key] = found["metrics"][key], found["n"][key]
        outcome.interval[key] = found["interval"][key]
    return outcome


def _named(columns: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {name.partition(":")[2]: values for name, values in columns.items() if name.startswith(f"{kind}:")}


def _no_rows(surface: Surface, *, watched: bool, many_draws: bool) -> dict[str, list[Tensor]]:
    """A column of no rows for each figure per example: a rank without inputs takes part in gathering all the same."""
    types = {name: torch.int64 for name in ("keys", "reference", "queries")}
    types |= {name: torch.bool for name in ("clean_right", "success", "valid", "random_wrong")}
    types |= {name: torch.float32 for name in ("distance", "nearest")}
    if many_draws:
        types["any_random_wrong"] = torch.bool
    if watched:
        images = ("clean", "noise", "adversarial") if surface.space.name == "pixels" else ("adversarial",)
        types |= {f"score:{name}": torch.float64 for name in images}
    types |= {f"beside:{name}": torch.float32 for name in surface.beside_names}
    return {name: [torch.zeros(0, dtype=kind)] for name, kind in types.items()}


def _gather(columns: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    local = {name: torch.cat(values) for name, values in columns.items()}
    return {name: gather_rows(values, local["keys"]) for name, values in local.items()}


def _images(surface: Surface, x: Tensor, reference: Tensor) -> Tensor:
    with shielded(surface.victims), torch.no_grad():
        return surface.images(x, reference)


def _beside(surface: Surface, chunk: Inputs, adversarial: Tensor) -> dict[str, Tensor]:
    with shielded(surface.victims), torch.no_grad():
        return surface.beside(chunk.x, adversarial, chunk.reference)


def _examples(surface: Surface, chunk: Inputs, adversarial: Tensor, shown: Tensor) -> dict[str, np.ndarray]:
    """The first of those ``shown (N,)`` of a chunk: pictures and the decision in words, before and after."""
    chosen = shown.nonzero().squeeze(1)[:EXAMPLES]
    x, moved, reference = chunk.x[chosen], adversarial[chosen], chunk.reference[chosen]
    with shielded(surface.victims), torch.no_grad():
        found = {
            f"{surface.name}_clean": surface.images(x, reference).float().cpu().numpy(),
            f"{surface.name}_adversarial": surface.images(moved, reference).float().cpu().numpy(),
            f"{surface.name}_before": np.array(surface.words(x, reference)),
            f"{surface.name}_after": np.array(surface.words(moved, reference)),
        }
        found |= {
            f"{surface.name}_{name}": made.float().cpu().numpy() for name, made in surface.aims(reference).items()
        }
        for name, images in (("clean", x), ("adversarial", moved)):
            if (made := surface.outputs(images, reference)) is not None:
                found[f"{surface.name}_{name}_output"] = made.float().cpu().numpy()
    return found


def robustness_figures(surface: Surface, attacked: Attacked, flagged: Tensor | None) -> Outcome:
    """ASR, robust accuracy, system ASR, the random baseline, distance and queries of one surface."""
    outcome = Outcome(examples=attacked.examples)
    tally = AttackTally().update(attacked.clean_right, attacked.success, attacked.valid, flagged)
    outcome.add(tally.figures(surface.name))
    right, lost_to_noise = attacked.clean_right, attacked.clean_right & attacked.random_wrong
    outcome.share(f"robustness/random_success_{surface.name}", lost_to_noise, right)
    if attacked.any_random_wrong is not None:
        key = f"robustness/best_of_{DRAWS}_random_success_{surface.name}"
        outcome.share(key, right & attacked.any_random_wrong, right)
    if surface.name == "authenticity":  # the two directions apart: calling real fake, and passing a fake as real
        for name, value in (("real_to_fake", 1), ("fake_to_real", 0)):
            side = right & (attacked.reference == value)
            outcome.share(f"robustness/attack_success_authenticity_{name}", attacked.success & side, side)
    for name, values in attacked.beside.items():  # of the inputs that could be lost
        key, kept = f"robustness/{name}_{surface.name}", values[right & ~values.isnan()].double()
        if len(kept):
            outcome.metrics[key], outcome.n[key] = float(kept.mean()), len(kept)
        if len(kept) and name.startswith(("judge_reads", "as_")):
            outcome.interval[key] = wilson(int(kept.sum()), len(kept))
    if attacked.success.any():
        outcome.metrics[f"robustness/median_distance_{surface.name}"] = float(
            attacked.distance[attacked.success].median()
        )
    if right.any():  # the others were not attacked
        outcome.metrics[f"robustness/mean_queries_{surface.name}"] = float(attacked.queries[right].double().mean())
    return outcome
