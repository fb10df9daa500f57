"""The run's detectors as the last thing that looks at an image before it leaves."""

from collections.abc import Sequence

import torch
from torch import Tensor

from securegan.detectors.base import Detector
from securegan.errors import UserError
from securegan.models.base import GenerativeModule


class Screen:
    """Flags what a detector of the run flags, at the threshold that lies in the run's checkpoint."""

    def __init__(self, module: GenerativeModule, detectors: Sequence[Detector]) -> None:
        """Raises UserError where a detector was never fitted: it would let everything pass."""
        self.module, self.detectors = module, list(detectors)
        for detector in self.detectors:
            if not detector.fitted:
                raise UserError(
                    f"the run's detector {detector.name} was not fitted when the checkpoint was saved: nothing can be "
                    "screened by it; take a later checkpoint, or another run."
                )

    def facts(self) -> list[dict[str, str]]:
        """Name, threshold and false-positive rate of each detector, as plain data."""
        return [
            {"name": d.name, "threshold": f"{d.threshold:.9g}", "false_positive_rate": f"{d.false_positive_rate:.9g}"}
            for d in self.detectors
        ]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each of ``images (N, C, H, W)`` is flagged, and its scores ``(N, detectors)`` in float64."""
        if not self.detectors:
            return torch.zeros(len(images), dtype=torch.bool), torch.zeros(len(images), 0, dtype=torch.float64)
        scores = torch.stack([detector.scores(self.module, images).cpu() for detector in self.detectors], 1)
        limits = torch.tensor([detector.threshold for detector in self.detectors], dtype=torch.float64)
        return ~(scores <= limits).all(1), scores  # a score that is not a number is flagged
