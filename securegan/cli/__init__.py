"""The ``securegan`` command: ``run``, and those of the modules here.

Each module adds its commands' parsers, and imports what they need where they run: a user's mistake is to be answered
before torch is loaded.
"""

import os
import signal
import sys
import traceback

from securegan.cli import envelopes, keys, provenance, release, runs
from securegan.cli.parser import PROGRAM, Parser
from securegan.cli.terminal import complain
from securegan.errors import UserError, near_match
from securegan.security.errors import AuthenticationError

FAULT = 70  # the program's own (EX_SOFTWARE): Python's 1 would be a verdict


def main() -> None:
    """Dispatch on the first argument; a forgery ends with one sentence and exit code 1, a user's mistake with 2."""
    command, *rest = sys.argv[1:] or ["--help"]
    if command == "run":
        # As a module of its own: DDP starts its other processes with the same command.
        os.execv(sys.executable, [sys.executable, "-m", "securegan.run", *rest])
    parser = Parser(PROGRAM, description="Train, attack, defend and watch image generators.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("run", help="train, attack, defend, watch and report; as python -m securegan.run")
    runs.add(commands)
    release.add(commands)
    keys.add(commands)
    envelopes.add(commands)
    provenance.add(commands)
    if not command.startswith("-") and command not in commands.choices:
        complain(
            f"{PROGRAM}: there is no command '{command}': expected one of {', '.join(commands.choices)}."
            f"{near_match(command, tuple(commands.choices))}"
        )
        sys.exit(2)
    arguments = parser.parse_args([command, *rest])
    try:
        arguments.do(arguments)
    except UserError as error:
        complain(f"{PROGRAM}: {error}")
        sys.exit(1 if isinstance(error, AuthenticationError) else 2)
    except KeyboardInterrupt:
        complain(f"{PROGRAM}: interrupted")
        sys.exit(128 + signal.SIGINT)
    except Exception:
        traceback.print_exc()
        sys.exit(FAULT)
