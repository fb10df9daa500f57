"""Write the report of a run folder."""

from pathlib import Path

from securegan.reports.figures import Plot, draw_all
from securegan.reports.html import render
from securegan.reports.results import RunResults
from securegan.runs.atomic import write_atomically


def write_report(folder: Path) -> Path:
    """Draw ``figures/*.png`` and write ``report.html`` from what the run folder holds; gives the report's path.

    Each file is replaced as a whole, and a second call on the same results writes the same bytes.

    Raises:
        UserError: the folder holds no results, or damaged ones, or cannot be written.
    """
    folder = Path(folder)
    results = RunResults.load(folder)
    plots = draw_all(results)
    (folder / "figures").mkdir(exist_ok=True)
    for plot in plots.all:
        _write_figure(folder / "figures" / f"{plot.name}.png", plot)
    report = folder / "report.html"
    _replace(report, render(results, plots).encode())
    return report


def _write_figure(path: Path, plot: Plot) -> None:
    if plot.light is None:
        path.unlink(missing_ok=True)  # one of an earlier report would contradict this one
    else:
        _replace(path, plot.light)


def _replace(path: Path, content: bytes) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomically(path, write)
