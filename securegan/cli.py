"""The ``securegan`` command: ``securegan run ...`` and ``securegan report RUN``."""

import os
import sys
from pathlib import Path

from securegan.errors import UserError, near_match

USAGE = """usage: securegan COMMAND

  run [OVERRIDES]   train, attack, defend, watch and report; as python -m securegan.run
  report RUN        make the figures and report.html of a run folder again
"""


def main() -> None:
    """Dispatch on the first argument; a user's mistake ends with one sentence and exit code 2."""
    command, *rest = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
    elif command == "run":
        # As a module of its own: DDP starts its other processes with the same command.
        os.execv(sys.executable, [sys.executable, "-m", "securegan.run", *rest])
    elif command == "report" and len(rest) == 1:
        _report(Path(rest[0]))
    else:
        known = (
            f"securegan report takes one run folder, {len(rest)} were given."
            if command == "report"
            else (f"there is no command '{command}': expected run or report.{near_match(command, ('run', 'report'))}")
        )
        sys.stderr.write(f"securegan: {known}\n")
        sys.exit(2)


def _report(folder: Path) -> None:
    from securegan.reports.results import RunResults
    from securegan.reports.terminal import print_summary
    from securegan.reports.write import write_report

    try:
        print_summary(RunResults.load(folder), write_report(folder))
    except UserError as error:
        sys.stderr.write(f"securegan: {error}\n")
        sys.exit(2)
