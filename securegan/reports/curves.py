"""Quality and losses over training."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from securegan.reports.glossary import count_written, describe, short_count, written
from securegan.reports.protocol import floor, footer
from securegan.reports.results import X_COLUMN, RunResults
from securegan.reports.style import DASHES, MARKERS, Theme, dress, legend, new_figure, sign

LOSSES = ("train/loss_discriminator", "train/loss_generator", "train/loss_autoencoder")
_POINTS = 400  # a curve of more points is averaged to this many


def quality_curves(results: RunResults, theme: Theme) -> Figure | str:
    """FID and Inception score against images seen, each extractor a line, with the real-against-real floor."""
    fid = [key for key in ("quality/fid_judge", "quality/fid_inception") if results.series(key)]
    score = [key for key in ("quality/is_judge", "quality/is_inception") if results.series(key)]
    if not fid and not score:
        return "No quality was measured while this model was trained."
    figure = new_figure(theme)
    panels = [keys for keys in (fid, score) if keys]
    for axes, keys in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        name = "FID (lower is better)" if keys is fid else "Inception score (higher is better)"
        dress(axes, theme, x="images seen", y=name)
        for position, key in enumerate(keys):
            _line(axes, results, key, theme.cycle[position], position)
            if (lowest := floor(results, key)) is not None:
                label = f"real against real, {results.headline.split} split: {written(lowest)}"
                axes.axhline(lowest, color=theme.muted, linewidth=1.2, linestyle=(0, (4, 3)), label=label)
        axes.set_ylim(bottom=0)
        _image_ticks(axes)
        legend(axes, theme)
    points = results.series((fid or score)[0])
    n = points[-1][0].n.get((fid or score)[0]) or results.part("quality").get("n_fake")
    outputs = f"{count_written(n)} outputs" if isinstance(n, int) else "not recorded"
    sign(figure, theme, footer(results, n=outputs, split=points[-1][0].split))
    return figure


def distortion_curve(results: RunResults, theme: Theme) -> Figure | str:
    """How near outputs come to a target image for how much distortion of the input, beside proportion."""
    curve = results.distribution("auddc_reconstruction")
    if curve is None:
        return "No attack of this run grew its distortion towards target images."
    key = "robustness/auddc_reconstruction"
    figure = new_figure(theme)
    axes = figure.subplots()
    dress(axes, theme, x="distortion of the input (1: the target itself)", y="distance of the output to the target")
    place = np.linspace(0, 1, curve.size)
    label = f"mean of the inputs, area {written(results.headline.value(key))}"
    axes.plot(place, curve, color=theme.adversarial, linewidth=1.8, label=label)
    axes.plot(
        [0, 1], [1, 0], color=theme.muted, linewidth=1.2, linestyle=(0, (4, 3)), label="in proportion, area 0.500"
    )
    axes.set_xlim(0, 1)
    legend(axes, theme)
    n = f"{count_written(results.headline.n.get(key))} inputs, radii up to the whole range"
    sign(figure, theme, footer(results, n=n, split=results.headline.split, surfaces=[]))
    return figure


def _line(axes: Axes, results: RunResults, key: str, colour: str, position: int) -> None:
    points = results.series(key)
    seen, values = [row.images_seen for row, _ in points], [value for _, value in points]
    style: dict[str, Any] = {"marker": MARKERS[position], "markersize": 4.5, "markevery": max(1, len(points) // 12)}
    axes.plot(seen, values, color=colour, linewidth=1.8, label=describe(key).label, **style)


def loss_curves(results: RunResults, theme: Theme) -> Figure | str:
    """Losses of the players: step by step where steps.csv holds them, else per epoch."""
    lines = {key: points for key in LOSSES if (points := _losses(results, key)) is not None}
    if not lines:
        return "The run recorded no losses."
    figure = new_figure(theme)
    axes = figure.subplots()
    dress(axes, theme, x="images seen", y="loss")
    for position, (key, (seen, values)) in enumerate(lines.items()):
        colour, label = theme.cycle[position], describe(key).label
        axes.plot(seen, values, color=colour, linewidth=0.8, alpha=0.35)
        axes.plot(seen, _smooth(values), color=colour, linewidth=1.9, linestyle=DASHES[position], label=label)
    _image_ticks(axes)
    legend(axes, theme, columns=2)
    sign(figure, theme, footer(results, n="training batches, running means in bold", split="train", surfaces=[]))
    return figure


def _losses(results: RunResults, key: str) -> tuple[list[float], list[float]] | None:
    """Images seen and loss, at most ``_POINTS`` of them."""
    column, seen = results.steps.get(key), results.steps.get(X_COLUMN)
    if column is not None and seen is not None:
        there = np.isfinite(column) & np.isfinite(seen)
        x, y = seen[there], column[there]
    else:
        points = results.series(key)
        x = np.array([row.images_seen for row, _ in points], dtype=np.float64)
        y = np.array([value for _, value in points], dtype=np.float64)
    if not x.size:
        return None
    parts = min(_POINTS, x.size)
    blocks = zip(np.array_split(x, parts), np.array_split(y, parts), strict=True)
    means = [(float(a.mean()), float(b.mean())) for a, b in blocks]
    return [a for a, _ in means], [b for _, b in means]


def _smooth(values: list[float]) -> list[float]:
    """Running mean over a twentieth of the curve, over what there is of it at the ends."""
    half = max(1, len(values) // 40)
    padded = np.concatenate([[0.0], np.cumsum(values)])
    places = range(len(values))
    ends = [(max(0, place - half), min(len(values), place + half + 1)) for place in places]
    return [float((padded[stop] - padded[start]) / (stop - start)) for start, stop in ends]


def _image_ticks(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(lambda seen, _: short_count(seen))
