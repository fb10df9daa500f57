"""What the gate is worth against who knows it: white-box Auto-PGD through its own score, beside what does not try.

Two adversaries. One has images that the gate should refuse (noise, inverted, with their pixels shuffled) and moves them
until they are accepted, from where they are and from the nearest point to an accepted image; and the same without the
gate's weights, through the gate of another run, where one is given (transfer). The other has accepted
images that the class head reads right, and moves them until it reads them wrong: without regard to the gate, and
through class head and gate together. Who got through within a radius counts within every larger one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from securegan.attacks.engine import full_radius, start_noise
from securegan.attacks.evasion.apgd import APGD
from securegan.attacks.guarded import Guarded
from securegan.attacks.spaces import PixelSpace
from securegan.attacks.surfaces import Assessment, AuthenticitySurface, LabelSurface, Objective
from securegan.data.module import ImageDataModule
from securegan.errors import UserError
from securegan.metrics.robustness import wilson
from securegan.randomness import permutation, seed_of
from securegan.release.anomaly import Anomaly, threshold_of
from securegan.release.intake import calibrated, data_of
from securegan.runs.folder import RunFolder
from securegan.security.provenance.trust import Trust

STEPS = 100


class Gatekeeper(AuthenticitySurface):
    """The gate's decision, for inputs that it should refuse (reference 0); every statistic is brought down at once."""

    def __init__(self, anomaly: Anomaly, limit: float) -> None:
        super().__init__(lambda x: -anomaly.score(x).float(), -limit, anomaly.module.victims())
        self.anomaly, self.limit = anomaly, limit

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        parts = self.anomaly.parts(x)
        margin = (self.limit - parts.amax(1)).float()
        value = -(parts - self.limit).clamp_min(0).sum(1).float()
        return Assessment(value, margin.detach(), margin.detach() < 0)


@dataclass(frozen=True)
class Passed:
    """How many of some inputs the gate accepted; ``eps`` in L-inf, 0 where nothing was moved."""

    inputs: str
    adversary: str
    eps: float
    accepted: int
    n: int

    @property
    def share(self) -> float:
        """Of the inputs."""
        return self.accepted / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Of the share, at 95 % (Wilson)."""
        return wilson(self.accepted, self.n)


def audit_gate(
    anomaly: Anomaly,
    threshold: float,
    data: ImageDataModule,
    *,
    images: int,
    eps: Sequence[float],
    seed: int,
    surrogate: tuple[Anomaly, float] | None = None,
) -> list[Passed]:
    """Acceptance of clean, unusual and adversarial images of the test split.

    Args:
        anomaly: calibrated.
        threshold: of the gate.
        data: of the run.
        images: of each kind.
        eps: radii in L-inf.
        seed: of noise and starts.
        surrogate: another run's calibrated score and its threshold, which an adversary has instead of the gate's.
    """
    batches = [batch for _, batch in data.chunks("test", images)]
    clean, labels, keys = (torch.cat([batch[part] for batch in batches]) for part in range(3))
    good = _accepted(anomaly, threshold, clean)
    rows = [Passed("clean", "none", 0.0, int(good.sum()), len(clean))]
    near = clean[good].roll(1, 0)[torch.arange(len(clean)) % int(good.sum())]
    gates = {"through the gate": Gatekeeper(anomaly, threshold)}
    if surrogate is not None:
        gates["through another run's gate"] = Gatekeeper(*surrogate)
    for kind, unusual in _unusual(clean, seed).items():
        untouched, purpose = _accepted(anomaly, threshold, unusual), (seed, "gate", kind)
        rows.append(Passed(kind, "none", 0.0, int(untouched.sum()), len(unusual)))
        for radius in sorted(eps):
            ball = PixelSpace().ball(unusual, radius, "linf")
            noisy = full_radius(unusual, ball, start_noise(unusual, "linf", purpose, keys))
            by_chance = int(_accepted(anomaly, threshold, noisy).sum())
            rows.append(Passed(kind, "random noise", radius, by_chance, len(unusual)))
        for adversary, surface in gates.items():
            found = untouched
            for radius in sorted(eps):
                for start in (unusual, near):
                    left = ~found
                    if left.any():
                        moved = APGD(eps=radius, steps=STEPS)(
                            surface,
                            unusual[left],
                            torch.zeros(int(left.sum())),
                            purpose=purpose,
                            keys=keys[left],
                            start=start[left],
                        ).adversarial
                        found = found.masked_scatter(left, _accepted(anomaly, threshold, moved))
                rows.append(Passed(kind, adversary, radius, int(found.sum()), len(unusual)))
    if "label" in anomaly.module.surfaces():
        rows += _adversarial(anomaly, threshold, clean, labels, keys, sorted(eps), seed)
    return rows


def _accepted(anomaly: Anomaly, threshold: float, images: Tensor) -> Tensor:
    return anomaly.scores(images) <= threshold


def audit_run(
    run: Path,
    false_positive_rate: float,
    *,
    images: int = 64,
    trust: Trust | None = None,
    surrogate: Path | None = None,
) -> list[Passed]:
    """The audit of a run's gate, at the usual radius of its data, four times it, and without bounds.

    Args:
        run: a run folder, whose data are needed.
        false_positive_rate: of the gate.
        images: of each kind.
        trust: who must have signed the run; None asks nobody.
        surrogate: another run, on images of the same channels and size, such as one of another seed.

    Raises UserError where one of them cannot be used.
    """
    folder = RunFolder.open(run)
    anomaly, calibration = calibrated(run, trust)
    other = None if surrogate is None else _gate_of(surrogate, anomaly, false_positive_rate, trust)
    data = data_of(folder)
    eps = [data.spec.eps, min(1.0, 4 * data.spec.eps), 1.0]
    threshold = threshold_of(calibration, false_positive_rate)
    return audit_gate(anomaly, threshold, data, images=images, eps=eps, seed=int(folder.config().seed), surrogate=other)


def _gate_of(run: Path, like: Anomaly, rate: float, trust: Trust | None) -> tuple[Anomaly, float]:
    anomaly, calibration = calibrated(run, trust)
    theirs, ours = ((spec.channels, spec.size) for spec in (anomaly.module.spec, like.module.spec))
    if theirs != ours:
        raise UserError(
            f"{run} cannot be the surrogate: it reads images of {theirs[0]}x{theirs[1]}x{theirs[1]}, not of "
            f"{ours[0]}x{ours[1]}x{ours[1]}."
        )
    return anomaly, threshold_of(calibration, rate)


def _adversarial(
    anomaly: Anomaly, threshold: float, clean: Tensor, labels: Tensor, keys: Tensor, eps: Sequence[float], seed: int
) -> list[Passed]:
    """Misread by the class head and accepted by the gate, of those read right and accepted before."""
    module = anomaly.module
    head = LabelSurface(module.class_logits, module.victims(), module.spec.class_names)
    both = Guarded(head, anomaly.score, threshold, module.victims())
    read = head.words(clean, labels)
    good = _accepted(anomaly, threshold, clean)
    good &= torch.tensor([word == module.spec.class_names[int(y)] for word, y in zip(read, labels, strict=True)])
    x, y, k = clean[good], labels[good], keys[good]
    rows: list[Passed] = []
    if not len(x):
        return rows
    for adversary, surface in (("on the class head", head), ("through head and gate", both)):
        found = torch.zeros(len(x), dtype=torch.bool)
        for radius in eps:
            result = APGD(eps=radius, steps=STEPS)(surface, x, y, purpose=(seed, "gate", "label"), keys=k, start=x)
            found |= result.success & _accepted(anomaly, threshold, result.adversarial)
            rows.append(Passed("misread", adversary, radius, int(found.sum()), len(x)))
    return rows


def _unusual(clean: Tensor, seed: int) -> dict[str, Tensor]:
    """Images that have nothing to do with the run's, though two kinds share their histograms."""
    noise = torch.rand(clean.shape, generator=torch.Generator().manual_seed(seed_of(seed, "gate", "noise")))
    order = permutation(clean.shape[2] * clean.shape[3], seed, "gate", "shuffle")
    return {"noise": noise, "inverted": 1 - clean, "shuffled": clean.flatten(2)[:, :, order].view_as(clean)}
