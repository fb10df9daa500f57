"""The envelope of a signed text."""

import json
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securegan.security.errors import AuthenticationError
from securegan.security.provenance import dsse
from securegan.security.provenance.signing import Signer

SIGNER = Signer(b"d" * 32)
KIND = "application/vnd.in-toto+json"


def opened(data: bytes, kind: str = KIND) -> bytes:
    return dsse.read(data, kind, "it").payload(SIGNER.public, "it")


def test_the_encoding_that_is_signed_is_the_published_example() -> None:
    """github.com/secure-systems-lab/dsse, protocol.md, test vectors."""
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == expected


def test_others_read_the_envelope_as_json() -> None:
    value = json.loads(dsse.sign(KIND, b"\x00text", SIGNER))
    assert b64decode(value["payload"]) == b"\x00text" and value["payloadType"] == KIND
    signature = b64decode(value["signatures"][0]["sig"])
    assert SIGNER.public.verifies(signature, dsse.pae(KIND, b"\x00text"))


def test_dsse_type_confusion_is_refused() -> None:
    """What was signed as one type of text does not pass for another, whether the envelope says so or not."""
    data = dsse.sign("text/one", b"payload", SIGNER)
    assert opened(data, "text/one") == b"payload"
    for lie in (data, data.replace(b"text/one", b"text/two")):
        with pytest.raises(AuthenticationError):
            opened(lie, "text/two")
    moved = dsse.pae("text/one", b"payload").replace(b"8 text/one 7", b"7 text/on 8")
    assert not SIGNER.public.verifies(b64decode(json.loads(data)["signatures"][0]["sig"]), moved)


def test_every_byte_flipped_and_every_length_is_refused() -> None:
    data = dsse.sign(KIND, b"what was said", SIGNER)
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            with pytest.raises(AuthenticationError):
                opened(bytes(changed))
        with pytest.raises(AuthenticationError):
            opened(data[:place])
    for more in (data + b"\n", b" " + data, data + data, data[:-1] + b" \n"):
        with pytest.raises(AuthenticationError):
            opened(more)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value | {"extra": 1},
        lambda value: value | {"signatures": []},
        lambda value: value | {"signatures": value["signatures"] * 2},
        lambda value: value | {"signatures": [value["signatures"][0] | {"cert": ""}]},
        lambda value: {key: value[key] for key in ("payload", "signatures")},
    ],
)
def test_another_layout_of_the_same_is_refused(change: object) -> None:
    value = json.loads(dsse.sign(KIND, b"text", SIGNER))
    text = json.dumps(change(value), separators=(",", ":"), sort_keys=True) + "\n"  # type: ignore[operator]
    with pytest.raises(AuthenticationError):
        opened(text.encode())


def test_bits_that_base64_does_not_use_are_refused() -> None:
    data = dsse.sign(KIND, b"text", SIGNER)
    text = b64encode(b"text")
    assert b64decode(b"dGV4dB==") == b64decode(b"dGV4dA==") == b"text" and text in data
    with pytest.raises(AuthenticationError):
        opened(data.replace(text, b"dGV4dB=="))


def test_the_keyid_is_a_hint_and_no_selector_of_trust() -> None:
    stranger = Signer(b"x" * 32)
    lie = dsse.sign(KIND, b"text", stranger).replace(stranger.kid.encode(), SIGNER.kid.encode())
    with pytest.raises(AuthenticationError):
        opened(lie)


@given(st.binary(max_size=300), st.sampled_from([KIND, "text/one"]))
def test_fuzz_any_bytes_are_refused_in_one_way(data: bytes, kind: str) -> None:
    with pytest.raises(AuthenticationError):
        opened(data, kind)


@given(st.binary(max_size=300))
def test_any_text_comes_back(payload: bytes) -> None:
    assert opened(dsse.sign(KIND, payload, SIGNER)) == payload
