"""What the commands' parsers share."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn, TypeAlias

from securegan.cli.terminal import complain

PROGRAM = "securegan"


class Parser(argparse.ArgumentParser):
    """Ends a mistake with one sentence and exit code 2."""

    def error(self, message: str) -> NoReturn:
        complain(f"{PROGRAM}: {message}; {self.prog} --help says what is expected.")
        sys.exit(2)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def positive(text: str) -> int:
    """An argument's type: a number above zero."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)


def run_folder(text: str) -> Path:
    """An argument's type: a folder with a run's configuration, looked at before torch takes its seconds to load."""
    if not (Path(text) / "config.yaml").is_file():
        raise argparse.ArgumentTypeError(f"{text} is not a run folder: expected a folder that holds config.yaml")
    return Path(text)
