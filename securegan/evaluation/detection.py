"""How the detector fares: on successful adversarial images, on random noise of the same norm, on generated images.

Negatives are clean real images of the evaluated split; positives are adversarial images that fool the attacked surface
without the adversary knowing of the detector.
"""

import numpy as np
import torch
from torch import Tensor

from securegan.attacks.engine import full_radius, start_noise
from securegan.attacks.shield import shielded
from securegan.attacks.spaces import PixelSpace
from securegan.attacks.threat import AnyNorm
from securegan.data.module import ImageDataModule
from securegan.detectors.base import Detector
from securegan.detectors.mahalanobis.fitting import fit_layers
from securegan.detectors.mahalanobis.torch_model import LayeredMahalanobis, pool
from securegan.evaluation.outcome import Outcome
from securegan.evaluation.robustness import Attacked
from securegan.evaluation.sampling import image_chunks
from securegan.judges.judge import Judge
from securegan.metrics.detection import detection_figures, tpr_at_fpr
from securegan.metrics.distributed import gather_rows
from securegan.models.base import GenerativeModule


def adversarial_figures(detector: Detector, attacked: Attacked, surface: str) -> Outcome:
    """Detection of successful adversarial images against clean real ones, with random noise beside.

    On ``authenticity`` only attacks on real images count: negatives must be what the detector was calibrated on.
    """
    real = attacked.reference == 1 if surface == "authenticity" else torch.ones_like(attacked.success)
    clean, noise = attacked.scores["clean"][real], attacked.scores["noise"][real]
    outcome = _false_alarms(clean, noise, detector.threshold)
    positives = attacked.scores["adversarial"][attacked.success & real]
    if len(positives):
        outcome.add(detection_figures(clean, positives, detector.threshold))
        outcome.arrays["distance_adversarial"] = positives.float().numpy()
    else:
        outcome.notes.append("no attack succeeded, so detection of adversarial images is undefined.")
    return outcome


def unattacked_figures(
    detector: Detector,
    module: GenerativeModule,
    data: ImageDataModule,
    split: str,
    limit: int,
    norm: AnyNorm,
    eps: float,
    seed: int,
) -> Outcome:
    """Where no pixels are attacked: false alarms on real images, and on random noise of radius ``eps``."""
    space = PixelSpace()
    clean, noise = [torch.zeros(0, dtype=torch.float64)], [torch.zeros(0, dtype=torch.float64)]
    keys = [torch.zeros(0, dtype=torch.int64)]
    for _, batch in data.chunks(split, limit):
        images = batch.images.to(module.device)
        directions = start_noise(images, norm, (seed, "noise", "detector"), batch.index)
        moved = full_radius(images, space.ball(images, eps, norm), directions)
        clean.append(detector.scores(module, images).cpu())
        noise.append(detector.scores(module, moved).cpu())
        keys.append(batch.index)
    order = torch.cat(keys)
    scores = [gather_rows(torch.cat(values), order) for values in (clean, noise)]
    return _false_alarms(scores[0], scores[1], detector.threshold)


def _false_alarms(clean: Tensor, noise: Tensor, threshold: float) -> Outcome:
    """Scores of clean real images and of random noise on them, against the threshold and against each other."""
    outcome = Outcome(arrays={"distance_real": clean.float().numpy(), "distance_noise": noise.float().numpy()})
    outcome.share("detection/false_positive_rate", clean > threshold)
    outcome.share("detection/tpr_random_noise", noise > threshold)
    if len(clean):
        key = "detection/tpr_at_5fpr_random_noise"  # at the same empirical threshold as tpr_at_5fpr of attacks
        outcome.metrics[key], outcome.n[key] = tpr_at_fpr(clean, noise, 0.05), len(noise)
    return outcome


def generated_figures(detector: Detector, module: GenerativeModule, total: int) -> Outcome:
    """The detector's scores of ``total`` outputs: the rate that passes, and which are flagged."""
    scores, keys, classes = [torch.zeros(0, dtype=torch.float64)], [torch.zeros(0, dtype=torch.int64)], []
    classes.append(torch.zeros(0, dtype=torch.int64))
    for key, images, y in image_chunks(module, total, "samples"):
        scores.append(detector.scores(module, images).cpu())
        keys.append(key)
        classes.append(torch.full_like(key, -1) if y is None else y.cpu())
    order = torch.cat(keys)
    gathered, labels = gather_rows(torch.cat(scores), order), gather_rows(torch.cat(classes), order)
    outcome = Outcome(arrays={"distance_generated": gathered.float().numpy()})
    outcome.arrays["threshold"] = np.asarray(detector.threshold, dtype=np.float32)
    outcome.metrics["detection/threshold"] = detector.threshold
    outcome.share("detection/pass_rate_generated", gathered <= detector.threshold)
    names = [module.spec.class_names[int(k)] if int(k) >= 0 else "" for k in labels]
    outcome.flagged = {
        "detector": detector.name,
        "scores": gathered.tolist(),
        "threshold": detector.threshold,
        "classes": names,
    }
    return outcome


class JudgeDetector:
    """A Mahalanobis detector on the judge's features: a network that neither player trains against."""

    def __init__(
        self, judge: Judge, data: ImageDataModule, *, false_positive_rate: float, device: torch.device
    ) -> None:
        self.judge = judge
        self.model = LayeredMahalanobis(data.spec.num_classes, [judge.feature_dim]).to(device)
        fit_layers(
            self.model,
            self._features,
            data,
            device=device,
            shrinkage=0.01,
            false_positive_rate=false_positive_rate,
            max_images=10_000,
        )

    def _features(self, images: Tensor) -> list[Tensor]:
        with shielded((self.judge,)), torch.no_grad():
            return [self.judge.features(images)]

    def pass_rate(self, module: GenerativeModule, total: int) -> Outcome:
        """The share of ``total`` outputs under this detector's threshold."""
        outcome, passed = Outcome(), [torch.zeros(0, dtype=torch.bool)]
        for _, images, _ in image_chunks(module, total, "samples"):
            passed.append((self.model(pool(self._features(images))) <= self.model.threshold).cpu())
        outcome.share("detection/pass_rate_generated_judge", gather_rows(torch.cat(passed)))
        return outcome
