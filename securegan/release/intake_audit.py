"""What the gate is worth against who knows it: white-box PGD through its own score, beside what does not try.

Two adversaries. One has images that the gate should refuse (noise, inverted, with their pixels shuffled) and moves them
until they are accepted. The other has accepted images that the class head reads right, and moves them until it reads
them wrong: without regard to the gate, and through class head and gate together. What matters is the share of inputs
that get through, and it is 1 for a radius without bounds wherever gradients are any use: an anomaly score is no wall.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from securegan.attacks.engine import full_radius, start_noise
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.guarded import Guarded
from securegan.attacks.spaces import PixelSpace
from securegan.attacks.surfaces import AuthenticitySurface, LabelSurface
from securegan.data.module import ImageDataModule
from securegan.metrics.robustness import wilson
from securegan.models.base import GenerativeModule
from securegan.randomness import permutation, seed_of
from securegan.release.anomaly import Anomaly, threshold_of
from securegan.release.intake import calibrated, data_of
from securegan.runs.folder import RunFolder

STEPS, RESTARTS = 40, 1


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
    anomaly: Anomaly, threshold: float, data: ImageDataModule, *, images: int, eps: Sequence[float], seed: int
) -> list[Passed]:
    """Acceptance of clean, unusual and adversarial images of the test split.

    Args:
        anomaly: calibrated.
        threshold: of the gate.
        data: of the run.
        images: of each kind.
        eps: radii in L-inf.
        seed: of noise and starts.
    """
    module = anomaly.module
    batches = list(_batches(data, images))
    clean = torch.cat([images for images, _, _ in batches])
    keys = torch.cat([keys for _, _, keys in batches])
    passes: Callable[[Tensor], int] = lambda x: int((anomaly.scores(x) <= threshold).sum())  # noqa: E731
    rows = [Passed("clean", "none", 0.0, passes(clean), len(clean))]
    surface = AuthenticitySurface(lambda x: -anomaly.score(x).float(), -threshold, module.victims())
    for kind, unusual in _unusual(clean, seed).items():
        rows.append(Passed(kind, "none", 0.0, passes(unusual), len(unusual)))
        for radius in eps:
            moved = full_radius(
                unusual,
                PixelSpace().ball(unusual, radius, "linf"),
                start_noise(unusual, "linf", (seed, "gate", kind), keys),
            )
            rows.append(Passed(kind, "random noise", radius, passes(moved), len(unusual)))
            attack = PGD(eps=radius, steps=STEPS, restarts=RESTARTS)
            found = attack(
                surface, unusual, torch.zeros(len(unusual)), purpose=(seed, "gate", kind), keys=keys
            ).adversarial
            rows.append(Passed(kind, "PGD through the gate", radius, passes(found), len(unusual)))
    if "label" in module.surfaces():
        rows += _adversarial(anomaly, threshold, clean, torch.cat([y for _, y, _ in batches]), keys, eps, seed)
    return rows


def audit_run(run: Path, false_positive_rate: float, *, images: int = 64) -> list[Passed]:
    """The audit of a run's gate, at the usual radius of its data and without bounds."""
    folder = RunFolder.open(run)
    anomaly, calibration = calibrated(run)
    data = data_of(folder)
    eps = [data.spec.eps, 1.0]
    threshold = threshold_of(calibration, false_positive_rate)
    return audit_gate(anomaly, threshold, data, images=images, eps=eps, seed=int(folder.config().seed))


def _adversarial(
    anomaly: Anomaly, threshold: float, clean: Tensor, labels: Tensor, keys: Tensor, eps: Sequence[float], seed: int
) -> list[Passed]:
    """Misread by the class head and accepted by the gate, of those read right and accepted before."""
    module: GenerativeModule = anomaly.module
    head = LabelSurface(module.class_logits, module.victims(), module.spec.class_names)
    both = Guarded(head, anomaly.score, threshold, module.victims())
    rows = []
    good = anomaly.scores(clean) <= threshold
    good &= torch.tensor(
        [w == module.spec.class_names[int(y)] for w, y in zip(head.words(clean, labels), labels, strict=True)]
    )
    for radius in eps:
        attack = PGD(eps=radius, steps=STEPS, restarts=RESTARTS)
        for adversary, surface in (("PGD on the class head", head), ("PGD through class head and gate", both)):
            result = attack(surface, clean[good], labels[good], purpose=(seed, "gate", "label"), keys=keys[good])
            through = result.success & (anomaly.scores(result.adversarial) <= threshold)
            rows.append(Passed("misread", adversary, radius, int(through.sum()), int(good.sum())))
    return rows


def _batches(data: ImageDataModule, images: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for _, batch in data.chunks("test", images):
        yield batch.images, batch.labels, batch.index


def _unusual(clean: Tensor, seed: int) -> dict[str, Tensor]:
    """Images that have nothing to do with the run's, though two kinds share their histograms."""
    noise = torch.rand(clean.shape, generator=torch.Generator().manual_seed(seed_of(seed, "gate", "noise")))
    order = permutation(clean.shape[2] * clean.shape[3], seed, "gate", "shuffle")
    return {"noise": noise, "inverted": 1 - clean, "shuffled": clean.flatten(2)[:, :, order].view_as(clean)}
