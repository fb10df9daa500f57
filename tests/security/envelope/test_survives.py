"""What an envelope must survive, a test for each: every one of these is refused, and nothing is left behind."""

import json
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from securegan.errors import UserError
from securegan.security.envelope import chunked, files, passwords, recipients
from securegan.security.envelope.backends import Backend
from securegan.security.envelope.chunked import CHUNK, SEALED, Sealer
from securegan.security.envelope.files import facts_for, open_bytes, open_envelope, seal, seal_bytes
from securegan.security.envelope.header import ARGON2ID, SCRYPT, Facts, Header, Stanza
from securegan.security.envelope.passwords import Argon2id, Scrypt
from securegan.security.envelope.recipients import Password, Ring, RingKey, SecretKey, unlock
from securegan.security.envelope.versions import Expected, Versions
from securegan.security.errors import AuthenticationError, PolicyError
from securegan.security.keys.key import now
from securegan.security.keys.ring import KeyRing

PLAIN = bytes(number % 251 for number in range(2 * CHUNK + 500))


def payload_start(envelope: bytes) -> int:
    return len(Header.read(BytesIO(envelope)).encode()) + chunked.SALT + chunked.COMMITMENT


def parts(envelope: bytes) -> tuple[bytes, list[bytes]]:
    """What stands before the chunks, and the chunks."""
    start = payload_start(envelope)
    body = envelope[start:]
    return envelope[:start], [body[at : at + SEALED] for at in range(0, len(body), SEALED)]


def test_every_byte_flipped_is_refused(key: SecretKey, backend: Backend) -> None:
    """In every byte of the header and of the message's first and last chunk, and in every 97th between."""
    envelope = seal_bytes(PLAIN, [key], facts_for("image", "an object", 3), backend=backend)
    start = payload_start(envelope)
    numbers = {*range(start + 64), *range(start, len(envelope), 97), *range(len(envelope) - 520, len(envelope))}
    forged = bytearray(envelope)
    authentication = 0
    for number in numbers:
        for bit in (1, 0x80):
            forged[number] ^= bit
            with pytest.raises((AuthenticationError, PolicyError)) as raised:
                open_bytes(bytes(forged), [key], backend=backend)
            authentication += raised.type is AuthenticationError
            forged[number] ^= bit
    assert open_bytes(bytes(forged), [key], backend=backend) == PLAIN
    assert authentication > 2 * (len(numbers) - 60)  # the rest are a version, a purpose, a kid: for all to see


def test_every_byte_of_a_short_envelope_with_every_kind_of_recipient_flipped_is_refused(ring: KeyRing) -> None:
    """Opened by one recipient, with the others' stanzas as much under the MAC as its own."""
    for name, kind in ("symmetric", "aes256"), ("public", "x25519"):
        ring.new(name, kind)
    to = [RingKey(ring, key) for key in ring]
    envelope = seal_bytes(b"x", [*to, Password("five words are a password")], facts_for("image"))
    for key in ring:
        identity = Ring(ring, [key])
        for number in range(len(envelope)):
            forged = bytearray(envelope)
            forged[number] ^= 4
            with pytest.raises((AuthenticationError, PolicyError)):
                open_bytes(bytes(forged), [identity])


def test_truncation_at_every_length_is_refused(key: SecretKey, backend: Backend) -> None:
    envelope = seal_bytes(PLAIN, [key], facts_for("image"), backend=backend)
    lengths = {*range(payload_start(envelope) + 40), *range(0, len(envelope), 101)}
    lengths |= {payload_start(envelope) + number * SEALED + off for number in (1, 2) for off in range(-20, 20)}
    lengths |= {*range(len(envelope) - 530, len(envelope))}
    for length in lengths:
        with pytest.raises((AuthenticationError, PolicyError)):
            open_bytes(envelope[:length], [key], backend=backend)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 65 * CHUNK])
def test_anything_after_the_end_is_refused(size: int, key: SecretKey, backend: Backend) -> None:
    envelope = seal_bytes(bytes(size), [key], facts_for("image"), backend=backend)
    assert open_bytes(envelope, [key], backend=backend) == bytes(size)
    for more in (b"\0", bytes(16), bytes(SEALED), envelope):
        with pytest.raises(AuthenticationError):
            open_bytes(envelope + more, [key], backend=backend)


def test_chunks_swapped_duplicated_or_dropped_are_refused(key: SecretKey, backend: Backend) -> None:
    for size in (2 * CHUNK + 500, 130 * CHUNK):
        before, chunks = parts(seal_bytes(bytes(size), [key], facts_for("image"), backend=backend))
        last = len(chunks) - 1
        orders = [
            [1, 0, *range(2, last + 1)],
            [0, 0, *range(2, last + 1)],
            [0, *range(last + 1)],
            [*range(1, last + 1)],
            [0, *range(2, last + 1)],
            [*range(last)],
            [*range(last + 1), last],
            [last],
            [],
        ]
        for order in orders:
            with pytest.raises(AuthenticationError):
                open_bytes(before + b"".join(chunks[number] for number in order), [key], backend=backend)


def test_two_envelopes_spliced_are_refused(key: SecretKey, backend: Backend) -> None:
    """At the header, at the salt, and at every chunk, though both are under the same key with the same facts."""
    facts = facts_for("image", "an object")
    one, other = (seal_bytes(PLAIN, [key], facts, backend=backend) for _ in range(2))
    start = payload_start(one)
    for off in (-100, -88, -70, -56, -32, 0, SEALED, 2 * SEALED, len(one) - 16 - start):
        with pytest.raises(AuthenticationError):
            open_bytes(one[: start + off] + other[start + off :], [key], backend=backend)


def test_the_wrong_purpose_is_refused(ring: KeyRing) -> None:
    images = ring.new("images", purposes=["image"])
    with pytest.raises(PolicyError, match="not for the purpose checkpoint"):
        seal_bytes(PLAIN, [RingKey(ring, images)], facts_for("checkpoint"))
    envelope = seal_bytes(PLAIN, [RingKey(ring, images)], facts_for("image"))
    with pytest.raises(PolicyError, match="sealed for the purpose image"):
        open_bytes(envelope, [Ring(ring)], Expected(purpose="checkpoint"))
    # Somebody with the bytes of the key alone seals what the ring's key is not for.
    rogue = seal_bytes(PLAIN, [SecretKey(ring.secret(images))], facts_for("checkpoint"))
    with pytest.raises(PolicyError, match="not for the purpose checkpoint"):
        open_bytes(rogue, [Ring(ring)])
    ring.revoke("images", "retired")
    with pytest.raises(PolicyError, match="not for the purpose checkpoint"):
        open_bytes(rogue, [Ring(ring, even_revoked=True)])


def test_a_forced_reuse_of_nonces_is_refused(
    key: SecretKey, backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, salts_repeat: None
) -> None:
    """A generator of random numbers that repeats itself would give the same key, salt and nonces again."""
    monkeypatch.setattr("secrets.token_bytes", lambda size: b"r" * size)
    facts = facts_for("image", "an object")
    seal_bytes(b"one", [key], facts, backend=backend)
    with pytest.raises(PolicyError, match="random numbers repeat"):
        seal_bytes(b"two", [key], facts, backend=backend)
    with pytest.raises(PolicyError):
        seal(BytesIO(b"three"), tmp_path / "out", [key], facts, backend=backend)
    assert not [*tmp_path.iterdir()]


def test_a_sealer_is_of_one_message_and_of_its_length(backend: Backend) -> None:
    sealer = Sealer(bytes(32), b"once", BytesIO(), backend)
    sealer.finish()
    for again in (sealer.finish, lambda: sealer.write(b"more")):
        with pytest.raises(ValueError, match="finished"):
            again()
    endless = Sealer(bytes(32), b"long", BytesIO(), backend)
    endless._next = chunked.CHUNKS - 1
    endless.write(bytes(CHUNK))
    with pytest.raises(PolicyError, match="4 PiB"):
        endless.finish()


def test_a_downgrade_is_refused(key: SecretKey) -> None:
    envelope = seal_bytes(PLAIN, [key], facts_for("image"))
    for at, value in ((4, 0), (4, 2), (5, 0), (5, 1), (5, 3), (5, 255)):
        forged = bytearray(envelope)
        forged[at] = value
        with pytest.raises(PolicyError, match="expected version 1 and suite 2"):
            open_bytes(bytes(forged), [key])


def test_whoever_was_given_a_data_key_seals_nothing_else_for_its_other_recipients(
    key: SecretKey, backend: Backend
) -> None:
    """Of an envelope for two, one puts the other's stanza before a text of their own, and signs the header anew."""
    them, pair = SecretKey(b"t" * 32), SecretKey(b"p" * 32, "x25519")
    password = Password("five words are a password", Scrypt())
    facts = facts_for("image", "an object", 3)

    def forged(stanzas: tuple[Stanza, ...], to: Facts, data_key: bytes) -> bytes:
        header, out = Header.make(to, stanzas, data_key), BytesIO()
        out.write(header.encode())
        sealer = Sealer(data_key, header.context, out, backend)
        sealer.write(b"their own")
        sealer.finish()
        return out.getvalue()

    for victim in (key, pair, password):
        header = Header.read(BytesIO(seal_bytes(PLAIN, [victim, them], facts, backend=backend)))
        data_key = unlock(header, [them], backend)
        changes: list[dict[str, Any]] = [
            {"version": 1 << 40},
            {"object_id": "another"},
            {"purpose": "checkpoint"},
            {"form": "folder"},
        ]
        changes.append({"created": facts.created + timedelta(seconds=1)})
        for change in changes[:1] if victim is password else changes:
            with pytest.raises(AuthenticationError):
                open_bytes(forged(header.stanzas[:1], replace(facts, **change), data_key), [victim], backend=backend)
        # in the place of that very envelope they can, as docs/encryption.md says
        assert open_bytes(forged(header.stanzas[:1], facts, data_key), [victim], backend=backend) == b"their own"


def test_recipients_added_removed_or_exchanged_without_the_data_key_are_refused(ring: KeyRing, key: SecretKey) -> None:
    mine = RingKey(ring, ring.new("mine"))
    facts = facts_for("image", "an object")
    both = Header.read(BytesIO(seal_bytes(b"x", [mine, key], facts)))
    other = Header.read(BytesIO(seal_bytes(b"x", [key], facts)))
    rest = seal_bytes(b"x", [mine, key], facts)[len(both.encode()) :]
    for stanzas in (both.stanzas[:1], both.stanzas[::-1], (*both.stanzas, *other.stanzas), (*both.stanzas[:1],) * 2):
        forged = Header(both.facts, stanzas, both.mac).encode() + rest
        with pytest.raises((AuthenticationError, PolicyError)):
            open_bytes(forged, [Ring(ring)])


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (ARGON2ID, (1 << 32) - 1),
        (ARGON2ID, 1 << 20),
        (ARGON2ID, 8),
    ],
)
def test_bombs_of_memory_in_key_derivation_are_refused(
    kind: int, parameters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refused_without_derivation(kind, parameters.to_bytes(4, "big") + bytes([0, 0, 0, 3, 4]), monkeypatch)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (ARGON2ID, bytes([0, 1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 4])),
        (ARGON2ID, bytes([0, 1, 0, 0, 0, 0, 0, 1, 4])),
        (ARGON2ID, bytes([0, 1, 0, 0, 0, 0, 0, 3, 255])),
        (ARGON2ID, bytes(9)),
        (SCRYPT, bytes([63, 1])),
        (SCRYPT, bytes([20, 1])),
        (SCRYPT, bytes([16, 1])),
        (SCRYPT, bytes([17, 255])),
        (SCRYPT, bytes([17, 0])),
    ],
)
def test_bombs_of_time_in_key_derivation_and_weak_ones_are_refused(
    kind: int, parameters: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refused_without_derivation(kind, parameters, monkeypatch)


def _refused_without_derivation(kind: int, parameters: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def derived(*_: object) -> bytes:
        raise AssertionError("a key was derived")

    monkeypatch.setattr(Argon2id, "derive", derived)
    monkeypatch.setattr(Scrypt, "derive", derived)
    stanza = Stanza(kind, bytes(16) + parameters + bytes(40))
    header = Header(facts_for("image"), (stanza,), bytes(32)).encode()
    with pytest.raises(PolicyError, match="out of bounds"):
        open_bytes(header + bytes(100), [Password("five words are a password")])


def test_many_passwords_in_one_header_are_refused() -> None:
    stanza = Stanza(SCRYPT, bytes(16) + bytes([17, 1]) + bytes(40))
    for count, expected in ((2, "one password"), (17, "1 to 16"), (0, "1 to 16")):
        header = Header(facts_for("image"), (stanza,) * count, bytes(32)).encode()
        with pytest.raises(PolicyError, match=expected):
            open_bytes(header, [Password("five words are a password")])


def test_replay_of_an_older_version_is_refused(ring: KeyRing, tmp_path: Path) -> None:
    key, mine = RingKey(ring, ring.new("archive")), Ring(ring)
    versions = Versions(tmp_path / "seen.json", ring)
    old, new, unversioned, another = (
        seal_bytes(b"x", [key], facts_for("checkpoint", object_id, version))
        for object_id, version in (("weights", 4), ("weights", 5), (None, 0), ("other", 1))
    )

    def opened(envelope: bytes, memory: Versions = versions) -> None:
        open_envelope(BytesIO(envelope), BytesIO(), [mine], versions=memory)

    opened(old)
    for envelope in (new, new, unversioned, another):
        opened(envelope)
    for memory in (versions, Versions(tmp_path / "seen.json", ring)):
        with pytest.raises(PolicyError, match="version 4 of weights, and version 5 has been seen"):
            opened(old, memory)
    with pytest.raises(PolicyError, match="older version"):
        open_bytes(old, [mine], Expected(at_least=5))
    with pytest.raises(PolicyError, match="holds the object other"):
        open_bytes(another, [mine], Expected(object_id="weights"))


def test_a_version_that_others_could_have_given_is_not_remembered(ring: KeyRing, tmp_path: Path) -> None:
    """Else one of a great number, by anybody with the public key or with a stolen one, would lock out the genuine."""
    own, pair, stolen = (
        RingKey(ring, ring.new(name, kind)) for name, kind in (("own", "aes256"), ("pair", "x25519"), ("s", "aes256"))
    )
    elsewhere, password = SecretKey(bytes(range(50, 82))), Password("five words are a password")
    envelopes = [
        seal_bytes(b"x", to, facts_for("image", "doc", 9))
        for to in ([pair], [own, pair], [own, elsewhere], [own, password], [stolen])
    ]
    own_alone = seal_bytes(b"x", [own], facts_for("image", "doc", 4))
    ring.revoke("s", "compromised")
    versions = Versions(tmp_path / "seen.json", ring)
    for envelope in (*envelopes, own_alone):
        open_envelope(BytesIO(envelope), BytesIO(), [Ring(ring, even_revoked=True)], versions=versions)
    assert json.loads((tmp_path / "seen.json").read_text()) == {"doc": 4}


def test_a_refused_version_is_not_remembered(ring: KeyRing, tmp_path: Path) -> None:
    """Else a forged header would lock out everything genuine."""
    key = RingKey(ring, ring.new("archive"))
    versions = Versions(tmp_path / "seen.json", ring)
    envelope = bytearray(seal_bytes(PLAIN, [key], facts_for("image", "an object", 2)))
    envelope[-1] ^= 1
    with pytest.raises(AuthenticationError):
        open_envelope(BytesIO(envelope), BytesIO(), [Ring(ring)], versions=versions)
    assert not (tmp_path / "seen.json").exists()


def test_revoked_expired_and_future_keys(ring: KeyRing) -> None:
    key = ring.new("archive", expires=now() + timedelta(days=1))
    envelope = seal_bytes(PLAIN, [RingKey(ring, key)], facts_for("image"))
    object.__setattr__(key, "expires", now() - timedelta(days=1))
    with pytest.raises(PolicyError, match="expired"):
        seal_bytes(PLAIN, [RingKey(ring, key)], facts_for("image"))
    assert open_bytes(envelope, [Ring(ring, [key])]) == PLAIN
    ring.revoke("archive", "compromised")
    with pytest.raises(PolicyError, match="revoked"):
        open_bytes(envelope, [Ring(ring)])
    assert open_bytes(envelope, [Ring(ring, even_revoked=True)]) == PLAIN
    future = ring.new("next", begins=now() + timedelta(days=1))
    with pytest.raises(PolicyError, match="valid from"):
        seal_bytes(PLAIN, [RingKey(ring, future)], facts_for("image"))
    early = seal_bytes(PLAIN, [SecretKey(ring.secret(future))], facts_for("image"))
    with pytest.raises(PolicyError, match="valid from"):
        open_bytes(early, [Ring(ring)])
    with pytest.raises(PolicyError, match="valid from"):
        open_bytes(early, [Ring(ring, even_revoked=True)])


def test_one_key_in_use_is_enough_though_another_is_revoked(ring: KeyRing) -> None:
    keys = [ring.new("one"), ring.new("two")]
    envelope = seal_bytes(PLAIN, [RingKey(ring, key) for key in keys], facts_for("image"))
    ring.revoke("one", "retired")
    assert open_bytes(envelope, [Ring(ring)]) == PLAIN


def test_every_forgery_is_told_in_the_same_words(ring: KeyRing, key: SecretKey) -> None:
    envelope = seal_bytes(PLAIN, [key], facts_for("image"))
    header = Header.read(BytesIO(envelope))
    wrong = Stanza(header.stanzas[0].type, header.stanzas[0].body[:16] + bytes(40))
    start = payload_start(envelope)
    forgeries = [
        Header(header.facts, (wrong,), header.mac).encode() + envelope[start - 56 :],  # the data key
        envelope[: start - 57] + bytes(1) + envelope[start - 56 :],  # the header's MAC
        envelope[: start - 1] + bytes(1) + envelope[start:],  # the commitment
        envelope[:-1] + bytes([envelope[-1] ^ 1]),  # a tag
        envelope[:-1],
    ]
    told = set()
    for forged in forgeries:
        with pytest.raises(AuthenticationError) as raised:
            open_bytes(forged, [key])
        assert raised.value.__cause__ is None and raised.value.__suppress_context__
        told.add(str(raised.value))
    assert len(told) == 1
    password = seal_bytes(PLAIN, [Password("five words are a password")], facts_for("image"))
    with pytest.raises(AuthenticationError) as raised:
        open_bytes(password, [Password("five words are a passwort")])
    assert {str(raised.value)} == told


def test_nothing_appears_under_its_name_before_the_last_tag_is_checked(
    key: SecretKey, tmp_path: Path, backend: Backend
) -> None:
    envelope, out = tmp_path / "an.sge", tmp_path / "an"
    data = seal_bytes(bytes(200 * CHUNK), [key], facts_for("image"), backend=backend)
    for forged in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), data[: payload_start(data) + 128 * SEALED]):
        envelope.write_bytes(forged)
        with pytest.raises(AuthenticationError, match=r"an\.sge is refused"):
            open_envelope(envelope, out, [key], backend=backend)
        assert [*tmp_path.iterdir()] == [envelope]
    out.write_text("what was there")
    with pytest.raises(AuthenticationError):
        open_envelope(envelope, out, [key], replace=True, backend=backend)
    assert out.read_text() == "what was there"


def test_no_secret_in_repr_errors_or_pickles(ring: KeyRing) -> None:
    import pickle
    import traceback

    ring.new("archive")
    secret, password = bytes(range(100, 132)), "five words are a password"
    holders = [SecretKey(secret), Password(password), RingKey(ring, ring.find("archive")), Ring(ring)]
    texts = [repr(one) for one in holders]
    envelope = bytearray(seal_bytes(PLAIN, holders[:2], facts_for("image")))
    envelope[-1] ^= 1
    for one in holders[:2]:
        try:
            open_bytes(bytes(envelope), [one])
        except UserError as error:
            texts.append("".join(traceback.format_exception(error)))
        with pytest.raises(TypeError, match="holds a secret"):
            pickle.dumps(one)
    derived = chunked._derive(secret, bytes(24), b"")
    texts.append(repr(derived))
    hidden = (secret.hex(), repr(secret)[2:-1], password, derived.key.hex(), str(derived.nonce))
    assert not any(one in text for one in hidden for text in texts)
    modules = (chunked, files, passwords, recipients)
    assert not any(name in vars(module) for module in modules for name in ("logging", "logger", "print"))
