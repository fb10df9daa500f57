"""What an evaluation gives: figures with their n and interval, arrays for histograms, pictures and checks."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from securegan.metrics.figures import FigureSet
from securegan.metrics.masking import Check


@dataclass
class Outcome:
    """Results of one evaluation; keys of ``metrics`` are ``part/figure``."""

    metrics: dict[str, float] = field(default_factory=dict)
    n: dict[str, int] = field(default_factory=dict)
    interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    protocol: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    examples: dict[str, np.ndarray] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    flagged: dict[str, Any] = field(default_factory=dict)

    def merge(self, other: "Outcome") -> None:
        """Add another part's results."""
        for name in ("metrics", "n", "interval", "protocol", "arrays", "examples", "flagged"):
            getattr(self, name).update(getattr(other, name))
        self.checks.extend(other.checks)
        self.notes.extend(other.notes)

    def add(self, figures: FigureSet) -> None:
        """Add figures computed by ``metrics/``."""
        for name in ("metrics", "n", "interval"):
            getattr(self, name).update(figures[name])
        self.notes.extend(figures["notes"])
