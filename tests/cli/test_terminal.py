"""Text from outside, as a terminal gets it."""

import pytest

from securegan.cli.terminal import shown


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
