"""Suggestions are made where they help, and only there."""

import pytest

from securegan.errors import near_match


@pytest.mark.parametrize(
    ("word", "allowed", "match"),
    [
        ("pdg", ["fgsm", "pgd"], "pgd"),
        ("sampel", ["run", "sample"], "sample"),
        ("99", ["8", "9"], ""),
        ("nope", ["opt", "home"], ""),
        ("/srv/imagse", ["images", "/srv/images"], ""),
    ],
)
def test_a_suggestion_is_a_word_that_may_have_been_meant(word: str, allowed: list[str], match: str) -> None:
    assert near_match(word, allowed) == (f" Did you mean '{match}'?" if match else "")
