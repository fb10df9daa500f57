"""Attack success against the radius: how far an adversary must go for each share of the inputs."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from securegan.reports.glossary import count_written
from securegan.reports.protocol import footer, threat_of
from securegan.reports.results import RunResults
from securegan.reports.style import MARKERS, Theme, dress, legend, new_figure, percent_axis, sign

_UNITS = {"pixels": "radius, in units of [0, 1]", "latent": "radius, standard deviations of the prior"}
_MARKED = 25  # points up to which each is marked


def curves(results: RunResults) -> dict[str, NDArray[np.float64]]:
    """Rows of radius, share lost and n by surface, of those that were attacked at several radii."""
    found = {surface: results.arrays.get(f"radius_{surface}") for surface in results.surfaces}
    return {surface: rows.astype(np.float64) for surface, rows in found.items() if rows is not None and len(rows)}


def success_by_radius(results: RunResults, theme: Theme) -> Figure | str:
    """Success of the attack against its radius; images and latent codes have a panel each."""
    panels: dict[str, dict[str, NDArray[np.float64]]] = {}
    for surface, rows in curves(results).items():
        panels.setdefault(str(threat_of(results, surface).get("space", "pixels")), {})[surface] = rows
    if not panels:
        return "The attack was run at one radius alone: metrics.eps_factors=[0.5,1,2] measures it at more."
    figure = new_figure(theme)
    position = 0
    for axes, (space, lines) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True):
        dress(axes, theme, x=_UNITS.get(space, "radius"), y="attack success")
        for surface, rows in lines.items():
            _line(axes, theme, surface, rows, position)
            position += 1
        percent_axis(axes, theme)
        axes.set_xlim(left=0)
        legend(axes, theme)
    sizes = dict.fromkeys(count_written(int(rows[0, 2])) for lines in panels.values() for rows in lines.values())
    sign(figure, theme, footer(results, n=" and ".join(sizes), split=results.headline.split, surfaces=[]))
    return figure


def _line(axes: Axes, theme: Theme, surface: str, rows: NDArray[np.float64], position: int) -> None:
    radii, shares = np.append(0.0, rows[:, 0]), np.append(0.0, rows[:, 1])
    marker = MARKERS[position % len(MARKERS)] if len(rows) <= _MARKED else None
    colour = theme.cycle[position % len(theme.cycle)]
    axes.plot(radii, shares, color=colour, marker=marker, markersize=5, linewidth=1.8, label=surface)
