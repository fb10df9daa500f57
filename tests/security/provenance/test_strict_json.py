"""A JSON text has one meaning or none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securegan.security.provenance.strict_json import parse, write

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64) + 1, 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"x":[{"b":{"c":1,"c":2}}]}',
        b"1.0",
        b"1e3",
        b"NaN",
        b"[-Infinity]",
        b"-0",
        b"18446744073709551616",
        b"9" * 5000,
        b'"\\ud800"',
        b'{"\\ud800":1}',
        b'"\xff"',
        b"\xef\xbb\xbf1",
        b'"\n"',
        b"[1] x",
        b"",
        b"[" * 60_000,
        b'{"a":' * 60_000,
    ],
)
def test_duplicate_json_keys_and_other_texts_of_two_meanings_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse(text, limit=2**20)


def test_a_text_beyond_the_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ValueError, match="more than 3 bytes"):
        parse(b"1234", limit=3)


@given(PLAIN)
def test_what_is_written_is_read_as_it_was(value: object) -> None:
    try:
        text = write(value)
    except UnicodeEncodeError:  # half a surrogate pair
        return
    assert parse(text, limit=2**20) == value == json.loads(text)


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:0123456789.eE-+ntf\\u', max_size=60).map(str.encode))
def test_fuzz_any_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    try:
        value = parse(data, limit=1000)
    except ValueError:
        return
    assert parse(write(value), limit=10_000) == value
