"""Files, streams, recipients of every kind, and rewrapping."""

import os
import resource
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest

from securegan.errors import UserError
from securegan.security.envelope import files
from securegan.security.envelope.backends import BACKENDS, load_backend
from securegan.security.envelope.files import (
    facts_for,
    open_bytes,
    open_envelope,
    read_header,
    rewrap,
    seal,
    seal_bytes,
)
from securegan.security.envelope.header import Header
from securegan.security.envelope.passwords import Scrypt
from securegan.security.envelope.recipients import Password, PublicKey, Ring, RingKey, SecretKey
from securegan.security.errors import AuthenticationError, PolicyError
from securegan.security.keys.ring import KeyRing

PLAIN = bytes(range(256)) * 300
WORDS = "five words are a password"


@pytest.mark.parametrize("sealed_by", BACKENDS)
@pytest.mark.parametrize("opened_by", BACKENDS)
def test_every_recipient_opens_what_either_library_sealed(sealed_by: str, opened_by: str, ring: KeyRing) -> None:
    one, other = load_backend(sealed_by), load_backend(opened_by)
    ring.new("symmetric"), ring.new("pair", "x25519")
    to = [RingKey(ring, ring.find("symmetric")), RingKey(ring, ring.find("pair")), Password(WORDS)]
    envelope = seal_bytes(PLAIN, to, facts_for("image"), backend=one)
    for identity in (Ring(ring, [ring.find("symmetric")]), Ring(ring, [ring.find("pair")]), Password(WORDS)):
        assert open_bytes(envelope, [identity], backend=other) == PLAIN


def test_scrypt_is_the_other_derivation() -> None:
    envelope = seal_bytes(PLAIN, [Password(WORDS, Scrypt())], facts_for("transport"))
    assert open_bytes(envelope, [Password(WORDS)]) == PLAIN


def test_a_password_is_the_same_from_every_keyboard() -> None:
    envelope = seal_bytes(b"x", [Password("Grüße aus der Küche", Scrypt())], facts_for("transport"))
    assert open_bytes(envelope, [Password("Gru\u0308ße aus der Ku\u0308che")]) == b"x"


def test_weak_passwords_seal_nothing() -> None:
    with pytest.raises(UserError, match="12 characters"):
        seal_bytes(b"x", [Password("short")], facts_for("transport"))


def test_nothing_is_sealed_for_nobody() -> None:
    with pytest.raises(UserError, match="needs a recipient"):
        seal_bytes(b"x", [], facts_for("image"))


def test_keys_come_from_files_the_environment_and_callables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = bytes(range(32))
    monkeypatch.setenv("A_KEY", secret.hex())
    path = tmp_path / "a.key"
    path.write_bytes(secret)
    path.chmod(0o600)
    keys = [SecretKey.from_environment("A_KEY"), SecretKey.from_file(path), SecretKey.from_callable(lambda: secret)]
    envelope = seal_bytes(PLAIN, keys[:1], facts_for("image"))
    assert all(open_bytes(envelope, [key]) == PLAIN for key in keys)
    for mistake, expected in (
        (lambda: SecretKey.from_environment("NO_KEY"), "NO_KEY.*not set"),
        (lambda: SecretKey.from_callable(lambda: b"short"), "32 bytes"),
    ):
        with pytest.raises(UserError, match=expected):
            mistake()
    path.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        SecretKey.from_file(path)


def test_a_public_key_seals_and_does_not_open(ring: KeyRing, tmp_path: Path) -> None:
    pair = ring.new("pair", "x25519")
    (tmp_path / "pair.pem").write_text(pair.pem)
    envelope = seal_bytes(PLAIN, [PublicKey.from_file(tmp_path / "pair.pem")], facts_for("image"))
    assert read_header(BytesIO(envelope)).stanzas[0].kid == pair.kid
    assert open_bytes(envelope, [Ring(ring)]) == PLAIN
    (tmp_path / "signing.pem").write_text(ring.new("signing", "ed25519").pem)
    with pytest.raises(UserError, match="a key that signs"):
        PublicKey.from_file(tmp_path / "signing.pem")


def test_whoever_is_no_recipient_is_told_whose_it_is(ring: KeyRing, key: SecretKey) -> None:
    envelope = seal_bytes(PLAIN, [key, Password(WORDS, Scrypt())], facts_for("image"))
    with pytest.raises(PolicyError, match=f"sealed for key {key.kid[:8]} or a password, and no such was given"):
        open_bytes(envelope, [Ring(ring)])


def test_rewrapping_exchanges_recipients_and_leaves_the_payload(ring: KeyRing, tmp_path: Path) -> None:
    old = ring.new("archive")
    path = tmp_path / "image.sge"
    seal(BytesIO(PLAIN), path, [RingKey(ring, old)], facts_for("image", "an object", 2))
    before, facts = path.read_bytes(), read_header(path).facts
    ring.rotate("archive")
    rewrap(path, [Ring(ring)], [RingKey(ring, ring.find("archive"))])
    after = path.read_bytes()
    assert read_header(path).facts == facts
    assert after[-len(PLAIN) - 100 :] == before[-len(PLAIN) - 100 :] and after != before
    ring.revoke(old.kid, "compromised")
    open_envelope(path, tmp_path / "image", [Ring(ring)])
    assert (tmp_path / "image").read_bytes() == PLAIN
    with pytest.raises(PolicyError, match="no such was given"):
        open_bytes(after, [Ring(ring, [old])])


def test_rewrapping_adds_a_recipient(ring: KeyRing, key: SecretKey, tmp_path: Path) -> None:
    path = tmp_path / "image.sge"
    seal(BytesIO(PLAIN), path, [key], facts_for("image"))
    header = rewrap(path, [key], [Password(WORDS, Scrypt())], add=True)
    assert len(header.stanzas) == 2
    for identity in (key, Password(WORDS)):
        assert open_bytes(path.read_bytes(), [identity]) == PLAIN


def test_a_forged_header_is_not_rewrapped(key: SecretKey, tmp_path: Path) -> None:
    path = tmp_path / "image.sge"
    seal(BytesIO(PLAIN), path, [key], facts_for("image", "an object"))
    forged = bytearray(path.read_bytes())
    forged[forged.index(b"an object")] ^= 1
    path.write_bytes(forged)
    with pytest.raises(AuthenticationError):
        rewrap(path, [key], [key])
    assert path.read_bytes() == forged and [*tmp_path.iterdir()] == [path]


def test_a_broken_payload_is_not_rewrapped(key: SecretKey, tmp_path: Path) -> None:
    """Whoever removes the old key or the backup after a rewrap must be able to rely on the new envelope."""
    path = tmp_path / "image.sge"
    seal(BytesIO(PLAIN), path, [key], facts_for("image"))
    whole = path.read_bytes()
    start = len(read_header(path).encode())
    broken = (whole[:-1], whole + b"x", whole[:start], whole[:-20] + bytes(1) + whole[-19:], whole[: start + 9000])
    for data in broken:
        path.write_bytes(data)
        with pytest.raises(AuthenticationError, match=r"image\.sge is refused"):
            rewrap(path, [key], [key], add=True)
        assert path.read_bytes() == data and [*tmp_path.iterdir()] == [path]


def test_nothing_is_overwritten_unasked(key: SecretKey, tmp_path: Path) -> None:
    path, out = tmp_path / "image.png", tmp_path / "out.sge"
    path.write_bytes(PLAIN)
    out.write_bytes(b"precious")
    with pytest.raises(UserError, match="exists already"):
        seal(path, out, [key], facts_for("image"))
    assert out.read_bytes() == b"precious"
    seal(path, out, [key], facts_for("image"), replace=True)
    with pytest.raises(UserError, match="exists already"):
        open_envelope(out, path, [key])
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="exists already"):
        open_envelope(out, tmp_path / "link", [key])
    assert not (tmp_path / "nowhere").exists()


def test_what_was_opened_is_the_owners_alone(key: SecretKey, tmp_path: Path) -> None:
    seal(BytesIO(PLAIN), tmp_path / "a.sge", [key], facts_for("image"))
    open_envelope(tmp_path / "a.sge", tmp_path / "a", [key])
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600)])
def test_an_envelope_has_the_mode_that_the_umask_leaves(
    mask: int, expected: int, key: SecretKey, tmp_path: Path
) -> None:
    before = os.umask(mask)
    try:
        seal(BytesIO(PLAIN), tmp_path / "a.sge", [key], facts_for("image"))
        assert (tmp_path / "a.sge").stat().st_mode & 0o777 == expected
        rewrap(tmp_path / "a.sge", [key], [key])
        assert (tmp_path / "a.sge").stat().st_mode & 0o777 == expected
    finally:
        assert os.umask(before) == mask


def test_mistakes_are_one_sentence(key: SecretKey, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no envelope")
    for mistake, expected in (
        (lambda: seal(tmp_path / "missing", tmp_path / "out", [key], facts_for("image")), "cannot be read"),
        (lambda: seal(tmp_path / "text", tmp_path / "no" / "out", [key], facts_for("image")), "there is no folder"),
        (lambda: open_envelope(tmp_path / "text", tmp_path / "out", [key]), "no envelope of SecureGAN"),
        (lambda: open_envelope(tmp_path / "missing", tmp_path / "out", [key]), "cannot be read"),
        (lambda: facts_for("everything"), "cannot be for the purpose 'everything'"),
        (lambda: facts_for("image", "x" * 256), "1 to 255 bytes"),
        (lambda: facts_for("image", "a\nb"), "printable"),
        (lambda: facts_for("image", "a", -1), "version cannot be -1"),
    ):
        with pytest.raises(UserError, match=expected):
            mistake()
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_a_disk_that_is_full_leaves_nothing(key: SecretKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "image").write_bytes(PLAIN)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"out could not be written: No space left on device"):
        seal(tmp_path / "image", tmp_path / "out", [key], facts_for("image"))
    assert [path.name for path in tmp_path.iterdir()] == ["image"]


@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_disk_that_fills_while_sealing_is_not_taken_for_a_file_that_cannot_be_read(
    form: str, key: SecretKey, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "image").write_bytes(bytes(2 << 20))
    source = tmp_path / "folder" if form == "folder" else tmp_path / "folder" / "image"
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(UserError, match=r"out could not be written: File too large"):
            seal(source, tmp_path / "out", [key], facts_for("image"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


SEALING = """
import sys
from pathlib import Path
from securegan.security.envelope.files import facts_for, seal
from securegan.security.envelope.recipients import SecretKey
seal(sys.stdin.buffer, Path(sys.argv[1]), [SecretKey(bytes(32))], facts_for("image"))
"""


def test_a_process_killed_while_it_seals_leaves_no_envelope(tmp_path: Path) -> None:
    out = tmp_path / "out.sge"
    sealing = subprocess.Popen([sys.executable, "-c", SEALING, str(out)], stdin=subprocess.PIPE)
    assert sealing.stdin is not None
    sealing.stdin.write(bytes(4 << 20))
    sealing.stdin.flush()
    sealing.send_signal(signal.SIGKILL)
    assert sealing.wait() == -signal.SIGKILL
    assert not out.exists()


def test_through_pipes(key: SecretKey, tmp_path: Path) -> None:
    """Sealed from a pipe into a pipe, which gives and takes what it likes."""
    read, write = os.pipe()
    if not os.fork():
        with os.fdopen(write, "wb") as sink:
            seal(BytesIO(PLAIN * 20), sink, [key], facts_for("transport"))
        os._exit(0)
    os.close(write)
    out = BytesIO()
    with os.fdopen(read, "rb", buffering=0) as source:
        open_envelope(source, out, [key])
    os.wait()
    assert out.getvalue() == PLAIN * 20


def test_a_pipe_that_nobody_reads_is_a_mistake_in_one_sentence(key: SecretKey) -> None:
    envelope = seal_bytes(PLAIN, [key], facts_for("image"))
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as sink, pytest.raises(UserError, match="to its end: Broken pipe"):
        open_envelope(BytesIO(envelope), sink, [key])


def test_the_secret_key_is_asked_for_when_it_is_needed(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring among the identities of somebody else's envelope has nothing read from it."""
    ring.new("archive")
    envelope = seal_bytes(PLAIN, [SecretKey(bytes(32))], facts_for("image"))
    monkeypatch.setattr(ring, "secret", lambda key: pytest.fail("a secret was read"))
    assert open_bytes(envelope, [Ring(ring), SecretKey(bytes(32))]) == PLAIN


def test_the_header_says_as_much_as_it_must(key: SecretKey) -> None:
    envelope = seal_bytes(PLAIN, [key], facts_for("image"))
    header = Header.read(BytesIO(envelope))
    assert header.encode() == envelope[: len(header.encode())]
    assert len(header.encode()) + 56 + len(PLAIN) + 16 * 5 == len(envelope)
    assert files.read_header(BytesIO(envelope)) == header
