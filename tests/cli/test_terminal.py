"""Text from outside, as a terminal gets it."""

import io

import pytest

from securegan.cli.terminal import say, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Grüße 日本.png", "Grüße 日本.png"),
        ("a\x1b]0;owned\x07b\nc", "a\\x1b]0;owned\\x07b\\nc"),
        ("\x9b31m and \u202egnp", "\\x9b31m and \\u202egnp"),
        ("\udcffn", "\\xffn"),
        ("\ud800", "\\ud800"),
    ],
)
def test_text_is_shown_in_one_line_that_drives_nothing(text: str, expected: str) -> None:
    assert shown(text) == expected
    assert shown(text).encode("utf-8", "strict")


def test_a_terminal_that_lacks_a_letter_gets_its_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr("sys.stdout", stream)
    say("Grüße \x1b")
    stream.flush()
    assert stream.buffer.getvalue() == b"Gr\\xfc\\xdfe \\x1b\n"
