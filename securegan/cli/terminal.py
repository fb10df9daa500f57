"""Text for a terminal."""


def shown(text: str) -> str:
    """``text`` in one line that a terminal only shows: a file's name may hold what would drive it."""
    return "".join(letter if letter.isprintable() else _named(letter) for letter in text)


def _named(letter: str) -> str:
    """A byte of a file's name that is not UTF-8 reaches Python as U+DC80 and above."""
    return f"\\x{ord(letter) - 0xDC00:02x}" if "\udc80" <= letter <= "\udcff" else repr(letter)[1:-1]
