"""One spelling for each value."""

from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securegan.security.spelling import as_text, from_base64, moment, unique


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 127))
def test_base64_of_one_text_alone(plain: bytes, place: int, other: int) -> None:
    """Whatever letter is changed, another text comes out or none."""
    text = b64encode(plain)
    assert from_base64(text) == from_base64(text.decode()) == plain
    if place < len(text) and text[place] != other:
        changed = text[:place] + bytes([other]) + text[place + 1 :]
        with suppress(ValueError):
            assert from_base64(changed) != plain


@pytest.mark.parametrize("text", ["dGV4dB==", "dGV4dA", "dGV4dA==\n", "dGV4 dA==", "dGV4dA===", "é", "="])
def test_another_spelling_of_base64_is_refused(text: str) -> None:
    for given_text in (text, text.encode()):
        with pytest.raises(ValueError):
            from_base64(given_text)


@given(st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31)))
def test_times_come_back(time: datetime) -> None:
    time = time.replace(tzinfo=UTC, microsecond=0)
    assert moment(as_text(time)) == time


def test_times_are_in_utc() -> None:
    assert as_text(datetime(2026, 11, 21, 22, 0, tzinfo=timezone(timedelta(hours=2)))) == "2026-11-21T20:00:00Z"


@pytest.mark.parametrize(
    "text",
    ["2026-11-21T20:00:00", "2026-11-21T20:00:00+00:00", "2026-11-21 20:00:00Z", "2026-11-21", "20261121T200000Z"],
)
def test_another_spelling_of_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        moment(text)


def test_a_key_that_stands_twice_is_refused() -> None:
    assert unique([("a", 1), ("b", 1)]) == {"a": 1, "b": 1}
    with pytest.raises(ValueError, match="twice"):
        unique([("a", 1), ("a", 1)])
