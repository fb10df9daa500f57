"""What a release and a gate tell in the terminal."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from securegan.cli.terminal import shown
from securegan.release.intake import Finding
from securegan.release.intake_audit import Passed
from securegan.release.release import Released
from securegan.runs.atomic import as_json


def print_release(released: Released, out: Path, console: Console | None = None) -> None:
    """Throughput by stage of what was made now, and what there is in all."""
    console = console or Console()
    counts, watch = released.counts, released.watch
    if released.made:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1))
        for column in ("stage", "seconds", "images a second", "share"):
            table.add_column(column, justify="left" if column == "stage" else "right")
        whole = sum(watch.seconds.values())
        for stage, seconds in watch.seconds.items():
            table.add_row(
                stage, f"{seconds:.2f}", f"{released.made / max(seconds, 1e-9):,.0f}", f"{seconds / whole:.0%}"
            )
        table.add_row("in all (stages overlap)", f"{watch.total:.2f}", f"{released.made / watch.total:,.0f}", "")
        console.print(table)
    told = [f"{counts.release} released", f"{counts.review} to review", f"{counts.rejection} rejected"]
    console.print(Text(f"{counts.all} images in {out}: {', '.join(told)}."), soft_wrap=True)
    if counts.all > released.asked:
        more = f"{released.asked} were asked for: the release has more from before, and all of them stay."
        console.print(Text(more, style="yellow"), soft_wrap=True)
    if not released.plan.detectors:
        console.print(Text("No detector screened them: the run has none.", style="yellow"), soft_wrap=True)


def print_findings(findings: Iterable[Finding], console: Console | None = None) -> bool:
    """A line for each image as it is judged; whether all were accepted."""
    console = console or Console()
    accepted = refused = 0
    for finding in findings:
        accepted, refused = accepted + finding.accepted, refused + (not finding.accepted)
        word = Text("accepted", "green") if finding.accepted else Text("refused ", "bold red")
        told = [finding.reason or (finding.signature and f"signature {finding.signature}")]
        told += [] if finding.score is None or finding.reason else [f"score {finding.score:.3g}"]
        line = Text.assemble(word, f"  {shown(finding.name)}", (f"  {shown(', '.join(filter(None, told)))}", "dim"))
        console.print(line, soft_wrap=True, highlight=False)
    console.print(Text(f"{accepted} accepted, {refused} refused."), soft_wrap=True)
    return not refused


def print_passed(rows: Sequence[Passed], *, json: bool, console: Console | None = None) -> None:
    """What the gate let pass, by kind of input and adversary."""
    console = console or Console()
    if json:
        for row in rows:
            console.out(as_json({**asdict(row), "interval": row.interval}), highlight=False)
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    for column in ("inputs", "adversary", "eps", "accepted", "95 % interval", "n"):
        table.add_column(column, justify="left" if column in ("inputs", "adversary") else "right")
    for row in rows:
        low, high = row.interval
        eps = f"{row.eps * 255:g}/255" if row.eps else "-"
        table.add_row(row.inputs, row.adversary, eps, f"{row.share:.1%}", f"{low:.1%} to {high:.1%}", str(row.n))
    console.print(table)
