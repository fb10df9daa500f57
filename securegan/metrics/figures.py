"""The form in which figures leave the metrics: the keys of ``metrics.json``, with what every figure must carry."""

from typing import TypedDict


class FigureSet(TypedDict):
    """Figures by their full key (``robustness/attack_success_label``)."""

    metrics: dict[str, float]
    n: dict[str, int]  # the denominator of each figure that has one
    interval: dict[str, tuple[float, float]]  # 95 % Wilson intervals
    notes: list[str]  # sentences on what was left out and why


def empty() -> FigureSet:
    """A set to fill."""
    return {"metrics": {}, "n": {}, "interval": {}, "notes": []}
