"""How far an image lies from those that a run was trained on, as one number whose false alarms are known.

The scores of the run's detectors; where the model has a class head, how far its class probabilities move when the image
is squeezed (Xu et al. 2018, arXiv 1704.01155: 4 bits a channel, a 3x3 median; L1, the larger of the two); and where it
has an autoencoder, how far what that gives back is from the image (Meng & Chen 2017, arXiv 1705.09064: the root of the
mean squared error, here of the class that suits the image best). Each is brought to the scale of train images (0 their
median, 1 their 95th percentile), and the largest counts. The threshold is conformal on the calibration split and set on
that largest: no more than the stated share of new clean images lies above it, on average, however many there are.
"""

import json
import math
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from kornia.filters import median_blur
from torch import Tensor

from securegan.attacks.shield import shielded
from securegan.data.module import ImageDataModule
from securegan.detectors.base import Detector
from securegan.errors import UserError
from securegan.evaluation.surfaces import score_of
from securegan.metrics.detection import conformal_threshold
from securegan.models.base import GenerativeModule
from securegan.runs.atomic import write_json
from securegan.security.provenance.files import read_regular

FILE = "intake.json"  # in the run folder
LIMIT = 64 * 2**20  # bytes of it: some three million scores
SCALED_ON = 1024  # train images
LEVELS = 15  # of a channel squeezed to 4 bits

Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Calibration:
    """What was measured on a run's own clean images; whoever has it needs the data no more."""

    weights: str  # SHA-256 of the weights it was measured with
    scale: dict[str, tuple[float, float]]  # median and 95th percentile of train images, by statistic
    scores: list[float]  # of the calibration split
    held_out: list[float]  # of the test split

    @classmethod
    def load(cls, run: Path, weights: str) -> "Calibration | None":
        """What :meth:`save` left in a run folder, of these weights; None where there is none."""
        path = run / FILE
        try:
            content = read_regular(path, LIMIT)
            if len(content) > LIMIT:
                raise ValueError(f"more than {LIMIT} bytes")
            found = cls(**json.loads(content))
            usable = {name: (_finite(low), _finite(high)) for name, (low, high) in found.scale.items()}
            scores = [[_finite(score) for score in part] for part in (found.scores, found.held_out)]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} is damaged ({reason}): remove it, and it is measured again.") from error
        return cls(found.weights, usable, *scores) if found.weights == weights else None

    def save(self, run: Path) -> None:
        """Write it into a run folder. Raises UserError where something of it is no number: nothing could be judged."""
        for name, values in {**self.scale, "score": [*self.scores, *self.held_out]}.items():
            if not all(math.isfinite(value) for value in values):
                raise UserError(
                    f"the run cannot judge images: its {name} of clean images is not a finite number for "
                    f"{sum(not math.isfinite(value) for value in values)} of {len(values)}."
                )
        write_json(run / FILE, asdict(self))


class Anomaly:
    """The score of a run's networks; differentiable, so that it can be judged against who knows it."""

    def __init__(self, module: GenerativeModule, detectors: list[Detector], weights: str) -> None:
        """Args: weights: their SHA-256. Raises UserError where the run has nothing that could judge an image."""
        self.module, self.weights = module, weights
        self.statistics: dict[str, Score] = {d.name: score_of(d, module) for d in detectors if d.fitted}
        if "label" in module.surfaces():
            self.statistics["squeezing"] = self._squeezing
        if "reconstruction" in module.surfaces():
            self.statistics["reconstruction"] = self._reconstruction
        if not self.statistics:
            raise UserError(
                "the run has neither a fitted detector nor a class head nor an autoencoder: it cannot judge images."
            )
        self.scale: dict[str, tuple[float, float]] = {}
        self._alone = threading.Lock()

    def calibrate(self, data: ImageDataModule) -> Calibration:
        """Measure the run's own images, and take their scale."""
        train = {name: self._over(data, "train", score, SCALED_ON) for name, score in self.statistics.items()}
        self.scale = {name: (float(values.median()), float(values.quantile(0.95))) for name, values in train.items()}
        found = [self._over(data, split, self.score, None).tolist() for split in ("calibrate", "test")]
        return Calibration(self.weights, self.scale, *found)

    def take(self, calibration: Calibration) -> None:
        """Use what was measured before. Raises UserError where it was of other statistics."""
        if set(calibration.scale) != set(self.statistics):
            raise UserError(f"the run's {FILE} is of other detectors than it has: remove it, and it is measured again.")
        self.scale = calibration.scale

    def score(self, images: Tensor) -> Tensor:
        """``(N,)`` float64 of ``images (N, C, H, W)``; to be called where the module is shielded."""
        return self.parts(images).amax(1)

    def parts(self, images: Tensor) -> Tensor:
        """``(N, statistics)`` likewise: what the score is the largest of."""
        parts = []
        for name, statistic in self.statistics.items():
            middle, high = self.scale[name]
            parts.append((statistic(images).double() - middle) / max(high - middle, 1e-12))
        return torch.stack(parts, 1)

    def scores(self, images: Tensor) -> Tensor:
        """The same without gradients, on the CPU; leaves no trace, and waits for other threads."""
        with self._alone, shielded(self.module.victims()), torch.no_grad():
            return self.score(images.to(self.module.device)).cpu()

    def _over(self, data: ImageDataModule, split: str, score: Score, limit: int | None) -> Tensor:
        found = []
        for _, batch in data.chunks(split, limit):
            with shielded(self.module.victims()), torch.no_grad():
                found.append(score(batch.images.to(self.module.device)).double().cpu())
        return torch.cat(found)

    def _squeezing(self, images: Tensor) -> Tensor:
        levels = images * LEVELS
        coarse = (levels + (levels.round() - levels).detach()) / LEVELS  # rounding, with the gradient of the identity
        before, *after = (
            self.module.class_logits(shown).softmax(1) for shown in (images, coarse, median_blur(images, 3))
        )
        return torch.stack([(before - other).abs().sum(1) for other in after]).amax(0)

    def _reconstruction(self, images: Tensor) -> Tensor:
        """An image from outside is of no known class, and one whose class gives it back is like the run's."""
        module, n = self.module, len(images)
        classes = range(module.spec.num_classes) if module.conditional else (None,)
        errors = []
        for label in classes:
            labels = None if label is None else torch.full((n,), label, device=images.device)
            errors.append((module.reconstruct(images, labels) - images).square().mean((1, 2, 3)))
        return torch.stack(errors).amin(0).clamp_min(1e-12).sqrt()


def _finite(value: object) -> float:
    """Raises ValueError or TypeError for what is no finite number; a truth value and a text are none either."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.40} is no number")
    if not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")
    return float(value)


def threshold_of(calibration: Calibration, rate: float) -> float:
    """The score above which at most ``rate`` of new clean images lie."""
    return conformal_threshold(torch.tensor(calibration.scores, dtype=torch.float64), rate)


def false_alarms(calibration: Calibration, threshold: float) -> tuple[int, int]:
    """How many of the test split's images lie above ``threshold``, and of how many."""
    return sum(score > threshold for score in calibration.held_out), len(calibration.held_out)
