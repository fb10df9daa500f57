"""One look for every figure: colour-blind safe (Okabe & Ito 2008), readable at report size, in light and dark."""

import io
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from securegan.reports.glossary import short_count
from securegan.reports.results import Row

WIDTH, HEIGHT, DPI = 7.6, 3.5, 160  # inches; a figure stays sharp at twice the width of the report's column
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), "-", "-")


@dataclass(frozen=True)
class Theme:
    """Colours by role, so that one thing has one colour in every figure."""

    name: str
    paper: str
    ink: str
    muted: str
    grid: str
    generated: str
    real: str
    adversarial: str
    noise: str
    alarm: str
    cycle: tuple[str, ...]


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1c2430",
    muted="#5b6675",
    grid="#e4e8ee",
    generated="#0072b2",
    real="#3d4653",
    adversarial="#d55e00",
    noise="#009e73",
    alarm="#d55e00",
    cycle=("#0072b2", "#d55e00", "#009e73", "#a8568a", "#b07d00", "#3d4653"),
)
DARK = Theme(
    name="dark",
    paper="#171c24",
    ink="#e8ecf2",
    muted="#9aa6b5",
    grid="#2c343f",
    generated="#56b4e9",
    real="#c9d1db",
    adversarial="#ff8f45",
    noise="#2cc598",
    alarm="#ff8f45",
    cycle=("#56b4e9", "#ff8f45", "#2cc598", "#e08fc0", "#e6b422", "#c9d1db"),
)


def new_figure(theme: Theme, *, width: float = WIDTH, height: float = HEIGHT) -> Figure:
    """An empty figure with its own canvas, free of pyplot's global state."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor=theme.paper)
    FigureCanvasAgg(figure)
    return figure


def tile_figure(
    theme: Theme, *, columns: int, rows: int, tile: float, margins: tuple[float, float, float, float]
) -> tuple[Figure, Axes]:
    """A figure for tiles of ``tile`` inches with margins (left, top, right, bottom) around, and its bare axes.

    It is as wide as every other figure at least, so that texts have the same size throughout a report.
    """
    left, top, right, bottom = margins
    inner_width, inner_height = columns * tile, rows * tile
    width, height = max(WIDTH, left + inner_width + right), top + inner_height + bottom
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=theme.paper)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((left / width, bottom / height, inner_width / width, inner_height / height))
    axes.set_axis_off()
    return figure, axes


def dress(axes: Axes, theme: Theme, *, x: str, y: str) -> None:
    """Axis titles, two spines, a quiet grid."""
    axes.set_facecolor(theme.paper)
    axes.set_xlabel(x, color=theme.muted, fontsize=9)
    axes.set_ylabel(y, color=theme.muted, fontsize=9)
    axes.tick_params(colors=theme.muted, labelsize=8.5, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.grid)
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)


def legend(axes: Axes, theme: Theme, *, columns: int = 1) -> None:
    """A frameless legend above the axes, where it never covers data."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=8.5,
        labelcolor=theme.ink,
        handlelength=2.2,
        columnspacing=1.6,
        borderaxespad=0.2,
    )


def sign(figure: Figure, theme: Theme, line: str) -> None:
    """The protocol under a figure, so that it survives being copied out of the report."""
    figure.supxlabel(line.replace("$", r"\$"), x=0.012, ha="left", fontsize=7, color=theme.muted)


def epochs_and_images(axes: Axes, theme: Theme, rows: list[Row]) -> None:
    """Epochs below and the images seen by then above, at the same ticks."""
    known = {row.epoch: row.images_seen for row in rows}
    first, last = min(known), max(known)
    margin = max(0.5, 0.03 * (last - first))
    axes.set_xlim(first - margin, last + margin)
    wanted = MaxNLocator(nbins=10, integer=True, steps=[1, 2, 5, 10]).tick_values(first, last)
    ticks = [epoch for epoch in sorted(known) if epoch in set(map(float, wanted))] or [first, last]
    axes.set_xticks(ticks)
    top = axes.secondary_xaxis("top")
    top.set_xticks(ticks, [short_count(known[epoch]) for epoch in ticks])
    top.tick_params(colors=theme.muted, labelsize=7.5, length=0, pad=1)
    top.spines["top"].set_visible(False)
    axes.annotate(
        "images seen",
        (0.0, 1.0),
        xytext=(-4, 4),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        fontsize=7.5,
        color=theme.muted,
    )


def percent_axis(axes: Axes, theme: Theme) -> None:
    """0 to 100 % on the y axis, with room for markers at the ends."""
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])


def png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()
