"""The five diagnostics: fidelity, fidelity under attack, distances, attack success and detection over training.

A drawing function returns a figure, or one sentence that says why there is none.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from securegan.reports.glossary import count_written, describe, written
from securegan.reports.protocol import footer
from securegan.reports.results import RunResults
from securegan.reports.style import (
    DASHES,
    MARKERS,
    Theme,
    dress,
    epochs_and_images,
    legend,
    new_figure,
    percent_axis,
    sign,
)

Values = NDArray[np.float64]

BINS = 44
_WIDE = 12.0  # ratio of the largest to the smallest quantile from which distances are drawn on a logarithmic axis


def fidelity_clean(results: RunResults, theme: Theme) -> Figure | str:
    """Fidelity of clean outputs, beside that of real images."""
    clean, real = results.distribution("fidelity_clean"), results.distribution("fidelity_real")
    if clean is None:
        return "The run holds no fidelity of its outputs: it was not evaluated to the end."
    groups = [("outputs", clean, theme.generated), ("other real images", real, theme.real)]
    return _fidelity(results, theme, groups, surfaces=None)


def fidelity_attacked(results: RunResults, theme: Theme) -> Figure | str:
    """Fidelity of outputs whose latent codes were attacked, beside the clean ones."""
    attacked, clean = results.distribution("fidelity_latent_attack"), results.distribution("fidelity_clean")
    if attacked is None:
        return "The latent codes of this run were not attacked, so there is no fidelity under attack."
    groups = [("outputs under latent attack", attacked, theme.adversarial), ("clean outputs", clean, theme.generated)]
    return _fidelity(results, theme, groups, surfaces=["latent"])


def _fidelity(
    results: RunResults, theme: Theme, groups: list[tuple[str, Values | None, str]], *, surfaces: list[str] | None
) -> Figure:
    figure = new_figure(theme)
    axes = figure.subplots()
    # Both fidelity figures share one axis, so that the eye can go from one to the other.
    shown = [results.distribution(f"fidelity_{name}") for name in ("clean", "latent_attack", "real")]
    low = min(float(values.min()) for values in shown if values is not None)
    edges = np.linspace(min(0.0, low), 1.0, BINS + 1)
    dress(axes, theme, x="highest SSIM to held-out real images", y="share of images")
    for position, (name, values, colour) in enumerate(groups):
        if values is not None:
            median = float(np.median(values))
            label = f"{name}, n = {count_written(values.size)}, median {written(median)}"
            _histogram(axes, values, edges, colour, label, filled=position == 0)
            axes.axvline(median, color=colour, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(edges[0], edges[-1])
    _share_ticks(axes)
    legend(axes, theme)
    sizes = [count_written(values.size) for _, values, _ in groups if values is not None]
    sign(
        figure,
        theme,
        footer(results, n=" and ".join(sizes), split=results.headline.split, surfaces=surfaces, restarts=False),
    )
    return figure


def distances(results: RunResults, theme: Theme) -> Figure | str:
    """Detector distances of outputs, real, adversarial and noisy images, with the threshold and the flagged tail."""
    groups = [
        ("generated", results.distribution("distance_generated"), theme.generated),
        ("real", results.distribution("distance_real"), theme.real),
        ("adversarial", results.distribution("distance_adversarial"), theme.adversarial),
        ("random noise", results.distribution("distance_noise"), theme.noise),
    ]
    present = [(name, values, colour) for name, values, colour in groups if values is not None]
    if not present:
        return "The run had no detector, so there are no distances."
    threshold = float(results.arrays["threshold"]) if "threshold" in results.arrays else None
    figure = new_figure(theme, height=3.9)
    axes = figure.subplots()
    dress(axes, theme, x="Mahalanobis distance (detector score)", y="share of images")
    edges = _distance_edges(axes, [values for _, values, _ in present], threshold)
    for position, (name, values, colour) in enumerate(present):
        label = f"{name}, n = {count_written(values.size)}"
        if threshold is not None:
            label += f", {written(float((values > threshold).mean()), 'rate')} flagged"
        # What lies beyond the axis is counted in the outermost bins rather than left out.
        inside = np.clip(values, edges[0], edges[-1])
        _histogram(axes, inside, edges, colour, label, filled=position == 0, dashes=DASHES[position])
    if threshold is not None and np.isfinite(threshold):
        axes.axvspan(threshold, edges[-1], color=theme.alarm, alpha=0.1, linewidth=0)
        axes.axvline(threshold, color=theme.alarm, linewidth=1.5)
        place: dict[str, Any] = {
            "xycoords": ("data", "axes fraction"),
            "textcoords": "offset points",
            "color": theme.alarm,
            "bbox": {"facecolor": theme.paper, "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        }
        axes.annotate(f"flagged: above {written(threshold)}", (threshold, 0.95), xytext=(6, -6), fontsize=8.5, **place)
    axes.set_xlim(edges[0], edges[-1])
    _share_ticks(axes)
    legend(axes, theme, columns=2)
    sizes = ", ".join(f"{count_written(values.size)} {name}" for name, values, _ in present)
    sign(figure, theme, footer(results, n=sizes, split=results.headline.split, surfaces=_watched(results)))
    return figure


def _distance_edges(axes: Axes, groups: list[Values], threshold: float | None) -> Values:
    """Bin edges that hold 99 % of every group and the threshold, logarithmic where the groups lie far apart."""
    low = min(float(np.quantile(values, 0.002)) for values in groups)
    high = max(float(np.quantile(values, 0.995)) for values in groups)
    if threshold is not None and np.isfinite(threshold):
        low, high = min(low, threshold), max(high, threshold * 1.15)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    if low > 0 and high / low > _WIDE:
        axes.set_xscale("log")
        return np.geomspace(low, high, BINS + 1)
    return np.linspace(low, high, BINS + 1)


def _histogram(
    axes: Axes, values: Values, edges: Values, colour: str, label: str, *, filled: bool, dashes: Any = "-"
) -> None:
    """Shares rather than counts, since the groups differ in size."""
    weights, bins = np.full(values.size, 1 / values.size), edges.tolist()
    if filled:
        axes.hist(values, bins, weights=weights, color=colour, alpha=0.42, histtype="stepfilled", label=label)
        axes.hist(values, bins, weights=weights, color=colour, histtype="step", linewidth=1.2)
        return
    axes.hist(
        values, bins, weights=weights, color=colour, histtype="step", linewidth=1.6, linestyle=dashes, label=label
    )


def _share_ticks(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.05)


def attack_over_epochs(results: RunResults, theme: Theme) -> Figure | str:
    """Attack success per surface on validation, the noise floor beside it, and the test figure with its interval."""
    curves = {
        surface: points
        for surface in results.surfaces
        if (points := results.series(f"robustness/attack_success_{surface}"))
    }
    if not curves:
        return "No attack ran while this model was trained, so there is no attack success to follow."
    figure = new_figure(theme, height=3.7)
    axes = figure.subplots()
    dress(axes, theme, x="epoch", y="attack success")
    for position, (surface, points) in enumerate(curves.items()):
        colour, marker = theme.cycle[position % len(theme.cycle)], MARKERS[position % len(MARKERS)]
        every = max(1, len(points) // 12)
        epochs, values = [row.epoch for row, _ in points], [value for _, value in points]
        axes.plot(
            epochs, values, color=colour, marker=marker, markersize=5, markevery=every, linewidth=1.8, label=surface
        )
        floor = results.series(f"robustness/random_success_{surface}")
        if floor:
            label = "random noise of the same size" if position == 0 else None
            shown = [row.epoch for row, _ in floor], [value for _, value in floor]
            axes.plot(*shown, color=colour, linewidth=1, linestyle=(0, (1.5, 2)), alpha=0.85, label=label)
        _test_point(axes, results, f"robustness/attack_success_{surface}", colour, position)
    percent_axis(axes, theme)
    rows = [row for points in curves.values() for row, _ in points]
    epochs_and_images(axes, theme, rows)
    _epoch_legend(axes, theme)
    keys = [f"robustness/attack_success_{surface}" for surface in curves]
    sign(
        figure,
        theme,
        footer(results, n=_epoch_n(results, keys), split=_epoch_split(results), surfaces=list(curves), restarts=False),
    )
    return figure


def detection_over_epochs(results: RunResults, theme: Theme) -> Figure | str:
    """Detection accuracy, share caught at 5 % false alarms, and false alarms at the threshold."""
    keys = ("detection/accuracy", "detection/tpr_at_5fpr", "detection/false_positive_rate")
    curves = {key: points for key in keys if (points := results.series(key))}
    if not curves:
        return "No detector was measured while this model was trained, so there is no detection accuracy to follow."
    figure = new_figure(theme, height=3.7)
    axes = figure.subplots()
    dress(axes, theme, x="epoch", y="share of images")
    for position, key in enumerate(keys):
        if key not in curves:
            continue
        points, colour = curves[key], theme.cycle[position]
        every = max(1, len(points) // 12)
        epochs, values = [row.epoch for row, _ in points], [value for _, value in points]
        style: dict[str, Any] = {
            "marker": MARKERS[position],
            "markersize": 5,
            "markevery": every,
            "linestyle": DASHES[position],
        }
        axes.plot(epochs, values, color=colour, linewidth=1.8, label=describe(key).label, **style)
        _test_point(axes, results, key, colour, position)
    percent_axis(axes, theme)
    epochs_and_images(axes, theme, [row for points in curves.values() for row, _ in points])
    _epoch_legend(axes, theme)
    sign(
        figure,
        theme,
        footer(
            results,
            n=_epoch_n(results, curves),
            split=_epoch_split(results),
            surfaces=_watched(results),
            restarts=False,
        ),
    )
    return figure


def _watched(results: RunResults) -> list[str] | None:
    """The surface whose attacks the detector is measured on: labels where there are any."""
    return results.surfaces[:1] or None


def _test_point(axes: Axes, results: RunResults, key: str, colour: str, position: int) -> None:
    """The reported figure at the epoch of its checkpoint, with its 95 % interval."""
    test = results.test
    if test is None or test.epoch is None or (value := test.value(key)) is None:
        return
    low, high = test.bounds(key) or (value, value)
    spread = [[max(0.0, value - low)], [max(0.0, high - value)]]
    place = test.epoch + 0.12 * (position - 1)  # side by side, or the intervals of equal figures hide each other
    style: dict[str, Any] = {"marker": "*", "markersize": 13, "capsize": 3, "elinewidth": 1.2, "markeredgewidth": 0.6}
    axes.errorbar([place], [value], spread, color=colour, zorder=5, markeredgecolor=axes.get_facecolor(), **style)


def _epoch_legend(axes: Axes, theme: Theme) -> None:
    """A legend clear of the second axis, which also explains the stars."""
    if any(container for container in axes.containers):
        axes.plot([], [], marker="*", markersize=9, linestyle="", color=theme.muted, label="test split, 95 % interval")
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.07),
        ncols=3,
        frameon=False,
        fontsize=8.5,
        labelcolor=theme.ink,
        columnspacing=1.4,
    )


def _epoch_n(results: RunResults, keys: Iterable[str]) -> str:
    """The n of the last point of each curve, or that it was not recorded."""
    sizes = []
    for key in keys:
        row = results.series(key)[-1][0]
        if (n := row.n.get(key)) is not None:
            sizes.append(count_written(n))
    return "/".join(dict.fromkeys(sizes)) if sizes else "as in the protocol"


def _epoch_split(results: RunResults) -> str:
    splits = list(dict.fromkeys(row.split for row in results.rows if row.split != "train"))
    curve = " and ".join(splits) or "validate"
    return f"{curve} (curves), {results.test.split} (stars)" if results.test is not None else curve
