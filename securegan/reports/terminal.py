"""The closing words of a run in the terminal."""

import os
from pathlib import Path

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from securegan.reports.glossary import describe
from securegan.reports.results import RunResults
from securegan.reports.table import Line, main_table
from securegan.reports.verdict import judge_run

MAX_WIDTH = 100


def print_summary(results: RunResults, report: Path, console: Console | None = None) -> None:
    """Print the verdict, the main figures with their intervals, and where the report lies."""
    console = console or Console()
    width = min(console.width, MAX_WIDTH)
    verdict = judge_run(results)
    console.print(Padding(Text(verdict.sentence, style="bold"), (1, 0, 0, 1)), width=width)
    for sentence in verdict.alarms:
        console.print(Padding(Text(f"! {sentence}", style="bold red"), (0, 0, 0, 1)), width=width)
    console.print(Padding(_table(results, width), (1, 0, 0, 0)), width=width)
    for sentence in verdict.cautions:
        console.print(Padding(Text(f"· {sentence}", style="yellow"), (0, 0, 0, 1)), width=width)
    # Unbroken, so that a terminal can open it and a reader can copy it.
    console.print(Text.assemble(" report  ", (shortest(report), "bold")), soft_wrap=True, overflow="ignore", crop=False)


def _table(results: RunResults, width: int) -> Table:
    figures = results.headline
    where = f"{figures.split} split" + ("" if figures.epoch is None else f", epoch {figures.epoch}")
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=True, padding=(0, 1), title_justify="left", show_edge=False, width=width
    )
    table.add_column(where, no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for group in main_table(results):
        for line in group.lines:
            if line.key in figures.metrics:  # what was not measured is among the cautions
                label = describe(line.key).full_label
                table.add_row(label, Text(line.value, style=_style(line)), line.interval, line.n)
        table.add_section()
    return table


def _style(line: Line) -> str:
    return "dim" if line.missing else "bold"


def shortest(path: Path) -> str:
    """The path from here where that is shorter, else whole."""
    whole = str(path.resolve())
    try:
        relative = os.path.relpath(whole)
    except (OSError, ValueError):
        return whole
    return relative if len(relative) < len(whole) else whole
