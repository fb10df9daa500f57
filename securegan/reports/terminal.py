"""The closing words of a run in the terminal."""

import os
from pathlib import Path

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from securegan.reports.glossary import describe
from securegan.reports.results import Audit, RunResults, failed_first
from securegan.reports.table import Line, main_table
from securegan.reports.verdict import judge_run
from securegan.runs.folder import AUDIT

MAX_WIDTH = 100
RESULTS = {True: ("passed", "green"), None: ("not judged", "dim"), False: ("FAILED", "bold red")}


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


def print_audit(audit: Audit, folder: Path, console: Console | None = None) -> None:
    """Print the checks of the audit of the run in ``folder``, those that failed first, and what follows from them."""
    console = console or Console()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, width=min(console.width, MAX_WIDTH))
    table.add_column("surface", no_wrap=True)
    table.add_column("check", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("result", no_wrap=True)
    table.add_column("detail", ratio=4)
    for check in failed_first(audit.checks):
        word, style = RESULTS[check.passed]
        detail = Text(check.detail, no_wrap=check.passed is not False, overflow="ellipsis")
        table.add_row(check.surface, check.name, Text(word, style=style), detail)
    console.print(Padding(table, (1, 0, 0, 0)))
    judged = sum(check.passed is not None for check in audit.checks)
    if failed := audit.failed:
        said = f"{len(failed)} of {len(audit.checks)} checks failed: figures of these surfaces cannot be relied on."
        console.print(Text(f" ! {said}", style="bold red"))
    else:
        console.print(Text(f" {judged} of {len(audit.checks)} checks could be judged, and passed.", style="bold"))
    console.print(
        Text(f" {shortest(folder / AUDIT)}; securegan report {shortest(folder)} shows it"),
        soft_wrap=True,
        overflow="ignore",
        crop=False,
    )


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
