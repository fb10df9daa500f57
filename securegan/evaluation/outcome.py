"""What an evaluation gives: figures with their n and interval, arrays for histograms, pictures and checks."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from securegan.metrics.figures import FigureSet
from securegan.metrics.masking import Check
from securegan.metrics.robustness import wilson


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
    seconds: dict[str, float] = field(default_factory=dict)  # of the attack on each surface

    def merge(self, other: "Outcome") -> None:
        """Add another part's results."""
        for name in ("metrics", "n", "interval", "protocol", "arrays", "examples", "flagged", "seconds"):
            getattr(self, name).update(getattr(other, name))
        self.checks.extend(other.checks)
        self.notes.extend(other.notes)

    def share(self, key: str, wins: Tensor, among: Tensor | None = None) -> None:
        """Add the share of ``wins (N,)`` among ``among (N,)`` (all where not given) with n and interval, if n > 0."""
        n, k = len(wins) if among is None else int(among.sum()), int(wins.sum())
        if n:
            self.metrics[key], self.n[key], self.interval[key] = k / n, n, wilson(k, n)

    def add_mean(self, key: str, values: Tensor, undefined: str) -> None:
        """Add the mean of ``values (N,)`` that are numbers, with their n; why others are not is noted."""
        known = values[~values.isnan()]
        self.metrics[key], self.n[key] = float(known.mean()), len(known)
        if len(known) < len(values):
            self.notes.append(f"{key} leaves out {len(values) - len(known)} of {len(values)} images: {undefined}.")

    def add(self, figures: FigureSet) -> None:
        """Add figures computed by ``metrics/``."""
        for name in ("metrics", "n", "interval"):
            getattr(self, name).update(figures[name])
        self.notes.extend(figures["notes"])
