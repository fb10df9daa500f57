"""Text for a terminal."""

import sys
from typing import TextIO


def shown(text: str) -> str:
    """``text`` in one line that a terminal only shows: a file's name may hold what would drive it."""
    return "".join(letter if letter.isprintable() else _named(letter) for letter in text)


def say(text: str) -> None:
    """A line of a command's output."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """A line on what is wrong."""
    _write(sys.stderr, text)


def _write(stream: TextIO, text: str) -> None:
    """Letters that the stream's encoding lacks are escaped too: what was done is not to end in a traceback."""
    encoding = stream.encoding or "utf-8"
    stream.write(shown(text).encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _named(letter: str) -> str:
    """A byte of a file's name that is not UTF-8 reaches Python as U+DC80 and above."""
    return f"\\x{ord(letter) - 0xDC00:02x}" if "\udc80" <= letter <= "\udcff" else repr(letter)[1:-1]
