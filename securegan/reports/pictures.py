"""Pictures of a run: samples of the generator, and what the attacks did."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from securegan.reports.protocol import footer
from securegan.reports.results import AWARE, RunResults
from securegan.reports.style import Theme, sign, tile_figure

SHOWN = 8
PITCH = 1.06  # between the centres of neighbouring pictures, in their sides
WIDEST = 12  # pictures of a class in a row
FACTORS = (1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 100)
_WRAP = 13  # characters of a decision on one line

Pictures = NDArray[np.float32]


def sample_grid(results: RunResults, theme: Theme) -> Figure | str:
    """Samples of the generator, a row for each class where the run says which class was asked for."""
    samples = _pictures(results, "samples")
    if samples is None:
        return "The run holds no samples of its generator."
    names, rows = _sample_rows(results, samples)
    columns = max(map(len, rows))
    tile = min(0.62, 6.2 / columns)
    left = 1.0 if any(names) else 0.1
    figure, axes = tile_figure(theme, columns=columns, rows=len(rows), tile=tile, margins=(left, 0.05, 0.1, 0.36))
    pitch = _mosaic(axes, rows)
    for position, name in enumerate(names):
        _row_title(axes, name, position * pitch, theme)
    seed = "not recorded" if results.seed is None else results.seed
    sign(figure, theme, f"n = {len(samples)} · seed {seed}")
    return figure


def reconstruction_grid(results: RunResults, theme: Theme) -> Figure | str:
    """Real images of the split that is reported, and their reconstructions below."""
    real, made = _pictures(results, "reconstructed"), _pictures(results, "reconstructions")
    if real is None or made is None or real.shape != made.shape:
        return "The run holds no reconstructions."
    real, made = real[: 2 * SHOWN], made[: 2 * SHOWN]
    rows = [part for start in range(0, len(real), SHOWN) for part in (real[start:][:SHOWN], made[start:][:SHOWN])]
    figure, axes = tile_figure(
        theme, columns=min(SHOWN, len(real)), rows=len(rows), tile=0.62, margins=(1.1, 0.05, 0.1, 0.36)
    )
    pitch = _mosaic(axes, rows)
    for position in range(len(rows)):
        _row_title(axes, ("real", "reconstruction")[position % 2], position * pitch, theme)
    sign(figure, theme, f"n = {len(real)} · split {results.headline.split}")
    return figure


def path_grid(results: RunResults, theme: Theme) -> Figure | str:
    """Outputs along paths between two latent codes, a path a row."""
    stored = results.examples.get("paths")
    if stored is None or stored.ndim != 5 or stored.shape[2] not in (1, 3) or not stored.size:
        return "The run holds no outputs along paths between latent codes."
    paths = np.clip(np.nan_to_num(stored.astype(np.float32)), 0, 1)
    names = results.part("data").get("class_names")
    known = names if isinstance(names, list) and names else [""]
    figure, axes = tile_figure(
        theme, columns=paths.shape[1], rows=len(paths), tile=0.62, margins=(1.0 if any(known) else 0.1, 0.05, 0.1, 0.36)
    )
    pitch = _mosaic(axes, list(paths))
    for position in range(len(paths)):
        _row_title(axes, str(known[position % len(known)]), position * pitch, theme)
    seed = "not recorded" if results.seed is None else results.seed
    sign(figure, theme, f"{len(paths)} paths of {paths.shape[1]} codes · seed {seed}")
    return figure


def _sample_rows(results: RunResults, samples: Pictures) -> tuple[list[str], list[Pictures]]:
    """Samples by class where ``samples_labels`` gives the class of each, else eight in a row without a name."""
    labels = results.examples.get("samples_labels")
    if labels is None or labels.shape != (len(samples),) or (labels.dtype.kind == "i" and (labels < 0).all()):
        plain = [samples[start : start + SHOWN] for start in range(0, len(samples), SHOWN)]
        return [""] * len(plain), plain
    names = results.part("data").get("class_names")
    known = names if isinstance(names, list) and labels.dtype.kind in "iu" else []
    titles: list[str] = []
    rows: list[Pictures] = []
    for label in sorted(set(labels.tolist())):
        own = samples[labels == label]
        name = str(known[label]) if known and 0 <= label < len(known) else str(label)
        rows += [own[start : start + WIDEST] for start in range(0, len(own), WIDEST)]
        titles += [name, *[""] * (len(rows) - len(titles) - 1)]
    return titles, rows


def attack_grid(results: RunResults, theme: Theme, surface: str) -> Figure | str:
    """Clean and perturbed images with their amplified difference, and the decision before and after."""
    clean, moved = _pictures(results, f"{surface}_clean"), _pictures(results, f"{surface}_adversarial")
    if clean is None or moved is None or clean.shape != moved.shape:
        return f"No example of an attack on {surface} was kept, as happens where no attack succeeded."
    clean, moved = clean[:SHOWN], moved[:SHOWN]
    difference = moved - clean
    factor = _factor(difference)
    count = len(clean)
    before, after = (_words(results, f"{surface}_{when}", count) for when in ("before", "after"))
    lost = _lost(results, surface, [first != second for first, second in zip(before, after, strict=True)])
    rows = [clean, moved, np.clip(0.5 + factor * difference, 0, 1)]
    outputs = [_pictures(results, f"{surface}_{when}_output") for when in ("clean", "adversarial")]
    made = [output[:SHOWN] for output in outputs if output is not None]
    aims = [_pictures(results, f"{surface}_{what}") for what in ("target", "target_output")]
    aimed = [images[:SHOWN] for images in aims if images is not None]
    line = 0.14
    top, bottom = (line * max(word.count("\n") + 1 for word in words) for words in (before, after))
    margins = (1.15, 0.1 + top, 0.1, 0.42 + bottom)
    rows += [*made, *aimed]
    figure, axes = tile_figure(theme, columns=count, rows=len(rows), tile=0.8, margins=margins)
    pitch = _mosaic(axes, rows)
    names = ("output of z", "output of z + d") if surface.startswith("latent") else ("clean", "perturbed")
    outputs_named = ("output of clean", "output of perturbed")[: len(made)]
    titles = (*names, f"difference × {factor}", *outputs_named, *("target", "output of target")[: len(aimed)])
    for position, name in enumerate(titles):
        _row_title(axes, name, position * pitch, theme)
    _decisions(axes, theme, before, after, lost, (len(rows) - 1) * pitch)
    attacked = [surface.removeprefix(AWARE)]
    sign(figure, theme, footer(results, n=f"{count} examples", split=results.headline.split, surfaces=attacked))
    return figure


def _lost(results: RunResults, surface: str, changed: list[bool]) -> list[bool]:
    """Which attacks succeeded; where the run did not keep it, those that ``changed`` the decision's words."""
    stored = results.examples.get(f"{surface}_lost")
    return changed if stored is None or len(stored) < len(changed) else list(map(bool, stored))


def _decisions(axes: Axes, theme: Theme, before: list[str], after: list[str], lost: list[bool], last: float) -> None:
    """The decision on each input above its column, on what the adversary made of it below the last row."""
    style: dict[str, Any] = {"ha": "center", "fontsize": 8, "textcoords": "offset points", "annotation_clip": False}
    for column, (first, second, won) in enumerate(zip(before, after, lost, strict=False)):
        axes.annotate(first, (column * PITCH, -0.5), xytext=(0, 3), va="bottom", color=theme.ink, **style)
        colour, weight = (theme.alarm, "bold") if won else (theme.muted, "normal")
        place = (column * PITCH, last + 0.5)
        axes.annotate(second, place, xytext=(0, -4), va="top", color=colour, fontweight=weight, **style)
    style |= {"ha": "right", "color": theme.muted}
    axes.annotate("decision before", (-0.5, -0.5), xytext=(-6, 3), va="bottom", **style)
    axes.annotate("decision after", (-0.5, last + 0.5), xytext=(-6, -4), va="top", **style)


def _mosaic(axes: Axes, rows: list[Pictures]) -> float:
    """Draw rows of pictures, each one unit wide and high around whole multiples of the returned pitch."""
    pitch = PITCH
    for line, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            x, y = column * pitch, line * pitch
            image = picture.transpose(1, 2, 0)
            image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
            axes.imshow(image, extent=(x - 0.5, x + 0.5, y + 0.5, y - 0.5), interpolation="nearest")
    axes.set_xlim(-0.5, (max(map(len, rows)) - 1) * pitch + 0.5)
    axes.set_ylim((len(rows) - 1) * pitch + 0.5, -0.5)
    axes.set_aspect("auto")
    return pitch


def _factor(difference: Pictures) -> int:
    """The largest round amplification that clips nothing around mid-grey."""
    largest = float(np.abs(difference).max())
    if largest == 0:
        return 1
    return max((factor for factor in FACTORS if factor * largest <= 0.5 + 1e-6), default=1)


def _words(results: RunResults, name: str, count: int) -> list[str]:
    """Decisions in words, wrapped, empty where the run did not keep them."""
    stored = results.examples.get(name)
    words = [] if stored is None else [str(word) for word in np.atleast_1d(stored)[:count]]
    wrapped = ["\n".join(textwrap.wrap(_literal(word), _WRAP)[:2]) for word in words]
    return [*wrapped, *[""] * (count - len(wrapped))]


def _pictures(results: RunResults, name: str) -> Pictures | None:
    """An array of pictures (N, C, H, W) in [0, 1], None where it is missing or of another shape."""
    stored = results.examples.get(name)
    if stored is None or stored.ndim != 4 or stored.shape[1] not in (1, 3) or not stored.size:
        return None
    return np.clip(np.nan_to_num(stored.astype(np.float32)), 0, 1)


def _row_title(axes: Axes, name: str, y: float, theme: Theme) -> None:
    short = "\n".join(textwrap.wrap(_literal(name), 16)[:2])
    style: dict[str, Any] = {
        "ha": "right",
        "va": "center",
        "fontsize": 8.5,
        "color": theme.ink,
        "textcoords": "offset points",
    }
    axes.annotate(short, (-0.5, y), xytext=(-6, 0), annotation_clip=False, **style)


def _literal(text: str) -> str:
    """Text that matplotlib takes as it stands: a pair of dollars would be read as a formula."""
    return text.replace("$", r"\$")
