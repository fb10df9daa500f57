"""Every parser of bytes and text from outside, fuzzed: it refuses in its own words, or writes again what it read.

A few examples by default; ``pytest -m slow -s tests/security/envelope/test_fuzz.py`` runs many and prints their number.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securegan.errors import UserError
from securegan.security.envelope.backends import Forged, load_backend
from securegan.security.envelope.files import facts_for, open_bytes, seal_bytes
from securegan.security.envelope.folders import END, FILE, FOLDER, pack, unpack
from securegan.security.envelope.header import BODIES, LATEST, Header, Stanza
from securegan.security.envelope.recipients import SecretKey
from securegan.security.envelope.versions import Versions
from securegan.security.errors import PolicyError
from securegan.security.keys.key import KINDS, PURPOSES, Key
from securegan.security.keys.ring import KeyRing
from securegan.security.keys.secret import kid_of_public, pem_of, public_from_pem, read_secret, secret_from_text
from securegan.security.spelling import as_text

FEW, MANY = 60, 20_000
KEY = SecretKey(bytes(32))
ENVELOPE = seal_bytes(bytes(20_000), [KEY], facts_for("image", "an object", 3))


def changed(data: bytes) -> st.SearchStrategy[bytes]:
    """``data`` with bytes exchanged, cut, repeated or moved."""

    def change(steps: list[tuple[int, int, int]]) -> bytes:
        text = bytearray(data)
        for kind, at, value in steps:
            at %= len(text) + 1
            if kind == 0 and at < len(text):
                text[at] = value
            elif kind == 1:
                del text[at : at + value]
            elif kind == 2:
                text[at:at] = text[: value * 100]
        return bytes(text)

    step = st.tuples(st.integers(0, 2), st.integers(0, 400) | st.integers(0, len(data)), st.integers(0, 255))
    return st.lists(step, min_size=1, max_size=4).map(change)


def header(data: bytes, _: Path) -> None:
    source = BytesIO(data)
    try:
        found = Header.read(source)
    except (Forged, PolicyError):
        return
    assert found.encode() == data[: source.tell()]


def envelope(data: bytes, _: Path) -> None:
    if data != ENVELOPE:
        with pytest.raises(UserError):
            open_bytes(data, [KEY])


def blocks(data: bytes) -> Iterator[memoryview]:
    for at in range(0, len(data), 7):
        yield memoryview(data)[at : at + 7]


def folder(data: bytes, base: Path) -> None:
    inside = base / "inside"
    inside.mkdir(exist_ok=True)
    new = inside / "new"
    try:
        unpack(blocks(data), new)
    except (Forged, PolicyError):
        assert not [*inside.iterdir()]
    else:
        packed = BytesIO()
        pack(new, packed.write)
        assert packed.getvalue() == data
        shutil.rmtree(new)
    assert [*base.iterdir()] == [inside]


def entry(kind: int, name: bytes, content: bytes) -> bytes:
    start = bytes([kind]) + len(name).to_bytes(2, "big") + name
    return start + (len(content).to_bytes(8, "big") + content if kind == FILE else b"")


def secret_file(data: bytes, base: Path) -> None:
    path = base / "fuzzed.key"
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        assert read_secret(path) == data and len(data) == 32
    except UserError:
        assert len(data) != 32


def secret_text(data: bytes, _: Path) -> None:
    try:
        assert len(secret_from_text(data.decode("latin-1"), "VARIABLE")) == 32
    except UserError as error:
        assert not data.strip() or len(data) < 9 or data.decode("latin-1").strip() not in str(error)


def public_text(data: bytes, _: Path) -> None:
    text = data.decode("latin-1")
    try:
        kind, public = public_from_pem(text, "a file")
    except UserError:
        return
    assert pem_of(kind, public).split() == text.split()


def ring_file(data: bytes, base: Path) -> None:
    base.chmod(0o700)
    (base / "ring.json").write_bytes(data)
    try:
        ring = KeyRing.open(base)
    except UserError as error:
        assert "ring" in str(error)
        return
    assert [Key.from_json(json.loads(json.dumps(key.to_json()))) for key in ring] == [*ring]


def versions_file(data: bytes, base: Path) -> None:
    (base / "seen.json").write_bytes(data)
    try:
        Versions(base / "seen.json", ()).check(facts_for("image", "an object", 1 << 62))
    except UserError as error:
        assert "seen.json" in str(error) or "older version" in str(error)


BINARY = st.binary(max_size=300)
HEADERS = st.builds(
    lambda kinds, fill: Header.make(
        facts_for("image", "an object"), [Stanza(kind, bytes([fill]) * BODIES[kind]) for kind in kinds], bytes(32)
    ).encode(),
    st.lists(st.sampled_from([1, 2]), min_size=1, max_size=16),
    st.integers(0, 255),
)
NAMES = st.binary(max_size=12) | st.sampled_from([b"a", b"b", b"a/b", b"..", b"a/../b", b"/a", b"c"])
ENTRIES = st.lists(st.builds(entry, st.sampled_from([FILE, FOLDER, 3]), NAMES, BINARY), max_size=5)
STREAMS = ENTRIES.map(lambda found: b"".join(found) + bytes([END]) + len(found).to_bytes(8, "big"))
PEM = pem_of("x25519", bytes(range(32))).encode()
TIMES = st.integers(0, LATEST).map(lambda seconds: as_text(datetime.fromtimestamp(seconds, UTC)))
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | TIMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
GENUINE = {
    "kid": kid_of_public("x25519", bytes(32)), "name": "a", "kind": "x25519", "purposes": [*PURPOSES["x25519"]],
    "status": "active", "reason": None, "created": "2026-01-01T00:00:00Z", "begins": "2026-01-01T00:00:00Z",
    "expires": None, "revoked_at": None, "public": "00" * 32, "sealed": 0,
}  # fmt: skip
RINGS = st.builds(
    lambda name, value, more: json.dumps({"format": 1, "keys": [{**GENUINE, name: value}], **more}).encode(),
    st.sampled_from(sorted(GENUINE)),
    ANYTHING | st.sampled_from(KINDS) | TIMES,
    st.just({}) | st.dictionaries(st.text(max_size=5), ANYTHING, max_size=1),
)

Check = Callable[[bytes, Path], None]
PARSERS: dict[str, tuple[st.SearchStrategy[bytes], Check]] = {
    "header": (BINARY | BINARY.map(lambda data: b"SGE1\x01\x01" + data) | HEADERS.flatmap(changed), header),
    "envelope": (changed(ENVELOPE) | BINARY, envelope),
    "folder": (STREAMS | STREAMS.flatmap(changed) | BINARY, folder),
    "secret file": (BINARY | st.binary(min_size=31, max_size=33), secret_file),
    "secret text": (BINARY | st.from_regex(rb"[0-9a-fA-F]{62,66}|[A-Za-z0-9+/]{42,44}=*"), secret_text),
    "public text": (
        changed(PEM) | BINARY | st.from_regex(rb"-----BEGIN PUBLIC KEY-----\n[A-Z=]{58,62}\n"),
        public_text,
    ),
    "ring.json": (RINGS | RINGS.flatmap(changed) | BINARY, ring_file),
    "seen.json": (
        st.dictionaries(st.just("an object") | st.text(max_size=5), ANYTHING).map(lambda it: json.dumps(it).encode())
        | BINARY,
        versions_file,
    ),
}


def fuzz(name: str, base: Path, examples: int) -> int:
    strategy, check = PARSERS[name]
    count = 0

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=[*HealthCheck])
    @given(strategy)
    def run(data: bytes) -> None:
        nonlocal count
        count += 1
        check(data, base)

    run()
    return count


@pytest.mark.parametrize("name", PARSERS)
def test_a_fuzzed_parser_refuses_in_its_own_words(name: str, tmp_path: Path) -> None:
    load_backend()
    assert fuzz(name, tmp_path, FEW) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_fuzzed_at_length_refuses_in_its_own_words(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = fuzz(name, tmp_path, MANY)
    with capsys.disabled():
        print(f"\n{name}: {count} examples")
