"""The main table: every figure of a run with its interval, its n and what it means, or the reason why it is missing."""

import re
from dataclasses import dataclass

from securegan.reports.glossary import DASH, count_written, describe, interval_written, written
from securegan.reports.protocol import attack_sentence, floor, floor_of_fewer, halves, threat_of
from securegan.reports.results import RunResults

_CORE = {
    "quality": (
        "fid_judge", "is_judge", "kid_judge", "precision_judge", "recall_judge", "density_judge", "coverage_judge",
        "class_accuracy_judge", "fidelity", "fidelity_real", "fidelity_latent_attack",
    ),
    "detection": (
        "auroc", "recall", "false_positive_rate", "tpr_at_5fpr", "tpr_at_1fpr", "tpr_random_noise", "accuracy",
        "pass_rate_generated", "pass_rate_generated_judge",
    ),
}  # fmt: skip
_ROBUSTNESS = (
    "clean_accuracy", "attack_success", "random_success", "best_of_20_random_success", "robust_accuracy",
    "system_attack_success",
)  # fmt: skip
_MINOR = re.compile(
    r"robustness/(violations_|median_distance_|mean_queries_)|_(real_to_fake|fake_to_real)$"
    r"|detection/(aupr|precision|f1|threshold|positive_share|tpr_at_5fpr_random_noise)$"
)


@dataclass(frozen=True)
class Line:
    """One figure of the table; ``bar`` holds value, low and high in percent where the figure is a rate."""

    key: str
    label: str
    value: str
    interval: str
    n: str
    meaning: str
    bar: tuple[float, float, float] | None = None
    missing: bool = False


@dataclass(frozen=True)
class Group:
    """The figures of one part, robustness by surface; ``criterion`` says what is attacked and how."""

    title: str
    lines: list[Line]
    criterion: str = ""


def main_table(results: RunResults) -> list[Group]:
    """The figures a reader looks for, by part; a part that was not measured has one line that says why."""
    keys = [key for key in _measured(results) if not _MINOR.search(key)]
    groups = [_part(results, "quality", keys)]
    for surface in results.surfaces:
        own = [key for key in keys if key.startswith("robustness/") and describe(key).surface == surface]
        own.sort(key=lambda key: _rank(key.partition("/")[2].removesuffix(f"_{surface}"), _ROBUSTNESS))
        own = own or [f"robustness/attack_success_{surface}"]
        lines = [_line(results, key) for key in own]
        groups.append(Group(f"Robustness: {surface}", lines, _criterion(results, surface)))
    if not results.surfaces:
        groups.append(Group("Robustness", [_line(results, "robustness/attack_success_label")]))
    groups.append(_part(results, "detection", keys))
    shown = {line.key for group in groups for line in group.lines}
    if rest := [key for key in keys if key not in shown]:
        groups.append(Group("Others", [_line(results, key) for key in rest]))
    return groups


def _criterion(results: RunResults, surface: str) -> str:
    """When a decision on the surface is right, and what an adversary may do there."""
    right, threat = results.part("surfaces").get(surface), attack_sentence(threat_of(results, surface))
    parts = [f"Right when: {right}" if right else "", f"Attack: {threat}" if threat else ""]
    return " ".join(f"{part.rstrip('.')}." for part in parts if part)


def further_table(results: RunResults) -> list[Line]:
    """The remaining figures of the run, under their full names."""
    return [_line(results, key, full=True) for key in _measured(results) if _MINOR.search(key)]


def _measured(results: RunResults) -> list[str]:
    return [key for key in results.headline.metrics if not key.startswith("train/")]


def _part(results: RunResults, part: str, keys: list[str]) -> Group:
    own = [key for key in keys if key.startswith(f"{part}/")] or [f"{part}/{_CORE[part][0]}"]
    own.sort(key=lambda key: _rank(key.partition("/")[2], _CORE[part]))
    return Group(part.capitalize(), [_line(results, key) for key in own])


def _rank(name: str, order: tuple[str, ...]) -> int:
    """Place in an order; what it does not name comes last, as the run wrote it."""
    return next((place for place, stem in enumerate(order) if name == stem or name.startswith(f"{stem}_")), len(order))


def _line(results: RunResults, key: str, *, full: bool = False) -> Line:
    figures, entry = results.headline, describe(key)
    label = entry.full_label if full else entry.label
    value, bounds = figures.value(key), figures.bounds(key)
    if value is None:
        return Line(key, label, DASH, DASH, DASH, why_missing(results, key), missing=True)
    bar = None
    if entry.kind == "rate":
        low, high = bounds or (value, value)
        bar = (_percent(value), _percent(low), _percent(high))
    n, interval = count_written(figures.n.get(key)), interval_written(bounds, entry.kind)
    return Line(key, label, written(value, entry.kind), interval, n, _meaning(results, key, entry.meaning), bar)


def _percent(share: float) -> float:
    return 100 * min(1.0, max(0.0, share))


def _meaning(results: RunResults, key: str, meaning: str) -> str:
    lowest = floor(results, key)
    if lowest is not None:
        said = f"{meaning} Between {halves(results)}, it is {written(lowest, describe(key).kind)}"
        if not floor_of_fewer(results, key):
            return f"{said}."
        return (
            f"{said}; FID falls with the number of images, so between as many real ones as are scored here it would be "
            "lower, and a score under it is not better than real."
        )
    real = results.part("quality").get(f"real_{key.partition('/')[2]}")
    return meaning if not isinstance(real, float) else f"{meaning} Of real images it is {written(real)}."


def why_missing(results: RunResults, key: str) -> str:
    """Why a figure has no value, in one sentence."""
    if noted := next((note for note in results.notes if key in note), ""):
        return noted[0].upper() + noted[1:]
    if key in results.headline.metrics:
        return "Measured, but the result is not a number."
    part = key.partition("/")[0]
    group = {"robustness": "attack", "detection": "detector"}.get(part)
    if group and results.uses(group) is False:
        return f"Not measured: the run had no {group} ({group}=none)."
    if part == "robustness" and not results.part("attack"):
        return "Not measured: no attack ran."
    if results.test is None and not results.rows:
        return "Not measured: the run has not been evaluated yet."
    return "Not measured in this run."
