"""The key ring: which key may be used for what and when, and that its secrets stay where they belong."""

import json
import multiprocessing
import os
import pickle
import traceback
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from securegan.errors import UserError
from securegan.security.errors import PolicyError
from securegan.security.keys.key import KINDS, PURPOSES, Key, now
from securegan.security.keys.ring import KeyRing, default_folder
from securegan.security.keys.secret import (
    kid_of,
    kid_of_public,
    pem_of,
    public_from_pem,
    secret_from_text,
)

DAY = timedelta(days=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def ring(folder: Path) -> KeyRing:
    return KeyRing.open(folder)


def test_a_key_outlives_the_process_that_made_it(ring: KeyRing, folder: Path) -> None:
    key = ring.new("archive", "aes256", ["image", "run"], now() + DAY)
    again = KeyRing.open(folder)
    assert [*again] == [key]
    assert again.secret(key) == ring.secret(key) and len(again.secret(key)) == 32
    assert again.find("archive") == again.find(key.kid) == again.find(key.kid[:8]) == key


def test_every_kind_of_key_names_itself_by_its_public_part(ring: KeyRing) -> None:
    for kind, private in ("x25519", X25519PrivateKey), ("ed25519", Ed25519PrivateKey):
        key = ring.new(kind, kind)
        assert key.public == private.from_private_bytes(ring.secret(key)).public_key().public_bytes_raw()
        assert load_pem_public_key(key.pem.encode()).public_bytes_raw() == key.public
        assert public_from_pem(key.pem, "a file") == (kind, key.public)
        assert key.kid == kid_of_public(kind, key.public)
    symmetric = ring.new("symmetric")
    assert symmetric.public is None and symmetric.kid == kid_of("aes256", ring.secret(symmetric))
    with pytest.raises(UserError, match="symmetric"):
        _ = symmetric.pem


def test_kid_is_the_digest_of_the_public_key_info() -> None:
    """RFC 8032, section 7.1, test 1; the digest computed by ``openssl dgst`` over the DER of the public key."""
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert kid_of("ed25519", secret) == kid_of_public("ed25519", public) == "06e3fd8fda29bb60ab59557de61edb0a"


def test_rotation_leaves_one_active_key_and_opens_with_the_old_one(ring: KeyRing) -> None:
    old = ring.new("archive", purposes=["image"], expires=now() + 10 * DAY)
    new = ring.rotate("archive")
    old = ring.find(old.kid)
    assert ring.find("archive") == new != old
    assert (new.kind, new.purposes, old.status, new.status) == (old.kind, old.purposes, "decrypt-only", "active")
    assert new.expires is not None and abs(new.expires - now() - 10 * DAY) < timedelta(minutes=1)
    assert ring.secret(old) != ring.secret(new)
    old.require("open", "image")
    with pytest.raises(PolicyError, match="only opens"):
        old.require("seal", "image")
    with pytest.raises(PolicyError, match="only an active key"):
        ring.rotate(old.kid)


def test_revoked_keys_do_nothing(ring: KeyRing) -> None:
    key = ring.new("archive")
    revoked = ring.revoke("archive", "compromised")
    assert revoked.status == "revoked" and revoked.kid == key.kid
    for use in "seal", "open":
        with pytest.raises(PolicyError, match=r"was revoked on 2.*compromised"):
            revoked.require(use, "image")
    with pytest.raises(PolicyError, match="revoked before"):
        ring.revoke(key.kid, "compromised")
    ring.new("archive")  # the name is free again
    assert ring.find("archive").status == "active"


def test_expired_keys_only_open(ring: KeyRing) -> None:
    key = ring.new("archive", expires=now() + DAY)
    key.require("seal", "image")
    key.require("open", "image", at=now() + 2 * DAY)
    with pytest.raises(PolicyError, match="expired"):
        key.require("seal", "image", at=now() + 2 * DAY)
    assert (key.state(), key.state(now() + 2 * DAY)) == ("active", "expired")


def test_future_keys_do_nothing_yet(ring: KeyRing) -> None:
    key = ring.new("archive", begins=now() + DAY, expires=now() + 3 * DAY)
    for use in "seal", "open":
        with pytest.raises(PolicyError, match="valid from"):
            key.require(use, "image")
    key.require("seal", "image", at=now() + 2 * DAY)


def test_a_key_is_only_for_its_purposes(ring: KeyRing) -> None:
    images, signing = ring.new("images", purposes=["image"]), ring.new("signing", "ed25519", ["image"])
    images.require("seal", "image")
    signing.require("sign", "image")
    for key, use, purpose in (
        (images, "seal", "checkpoint"),
        (images, "open", "checkpoint"),
        (images, "sign", "image"),
        (signing, "seal", "image"),
        (signing, "sign", "checkpoint"),
    ):
        with pytest.raises(PolicyError):
            key.require(use, purpose)


def test_a_mistake_is_one_sentence_that_names_what_is_allowed(ring: KeyRing) -> None:
    ring.new("archive")
    for mistake, expected in (
        (lambda: ring.new("archive"), "rotate it"),
        (lambda: ring.new("../x"), "cannot be named"),
        (lambda: ring.new("00000000"), "cannot be named"),
        (lambda: ring.new("a", "rsa"), "aes256, x25519, ed25519"),
        (lambda: ring.new("a", purposes=["imge"]), "Did you mean 'image'"),
        (lambda: ring.new("a", expires=now() - DAY), "never be of use"),
        (lambda: ring.find("archve"), "Did you mean 'archive'"),
        (lambda: ring.revoke("archive", "lost"), "expected compromised"),
        (lambda: ring.rotate("nothing"), "has no key nothing"),
    ):
        with pytest.raises(UserError, match=expected):
            mistake()
    assert len(ring) == 1


def test_modes_are_those_of_secrets(ring: KeyRing, folder: Path) -> None:
    key = ring.new("archive")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    path = folder / f"{key.kid}.key"
    path.chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        ring.secret(key)
    path.chmod(0o600)
    folder.chmod(0o750)
    with pytest.raises(UserError, match="chmod 700"):
        KeyRing.open(folder)


def test_a_secret_that_was_swapped_cut_or_linked_is_refused(ring: KeyRing, folder: Path) -> None:
    one, other = ring.new("one"), ring.new("other")
    path = folder / f"{one.kid}.key"
    path.write_bytes(ring.secret(other))
    with pytest.raises(UserError, match="does not hold the key"):
        ring.secret(one)
    path.write_bytes(b"short")
    with pytest.raises(UserError, match="32 bytes"):
        ring.secret(one)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        ring.secret(one)
    path.symlink_to(folder / f"{other.kid}.key")
    with pytest.raises(UserError, match="cannot be read"):
        ring.secret(one)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(UserError, match="not a file"):
        ring.secret(one)


def test_no_secret_in_repr_errors_pickles_or_the_ring_file(ring: KeyRing, folder: Path) -> None:
    key = ring.new("archive", "x25519")
    secret = ring.secret(key)
    spread = secret[:-1] + bytes([secret[-1] ^ 1])
    (folder / f"{key.kid}.key").write_bytes(spread)
    try:
        ring.secret(key)
    except UserError as error:
        told = "".join(traceback.format_exception(error))
    texts = [repr(ring), repr(key), str(key), told, (folder / "ring.json").read_text(), json.dumps(key.to_json())]
    for form in (secret.hex(), repr(secret), repr(secret)[2:-1], spread.hex()):
        assert not any(form in text for text in texts)
    assert secret not in pickle.dumps(ring)
    for bad in "zz" * 32, secret.hex()[:-2]:
        with pytest.raises(UserError) as raised:
            secret_from_text(bad, "SECUREGAN_KEY")
        assert bad not in str(raised.value) and raised.value.__cause__ is None


def test_counts_are_kept(ring: KeyRing, folder: Path) -> None:
    key = ring.new("archive")
    ring.count(key, 3)
    ring.count(key, 2)
    assert KeyRing.open(folder).find("archive").sealed == 5


def test_a_process_killed_before_the_ring_is_written_leaves_the_ring_as_it_was(
    ring: KeyRing, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring.new("archive")
    before = (folder / "ring.json").read_bytes()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("securegan.security.keys.ring.json.dumps", killed)
    with pytest.raises(KeyboardInterrupt):
        ring.rotate("archive")
    monkeypatch.undo()
    assert (folder / "ring.json").read_bytes() == before
    again = KeyRing.open(folder)
    assert again.find("archive").status == "active" and len(again) == 1
    again.rotate("archive")


def _make_some(folder: Path, name: str) -> None:
    for number in range(5):
        KeyRing.open(folder).new(f"{name}-{number}")


def test_two_processes_write_one_ring(folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_make_some, args=(folder, name)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert len(KeyRing.open(folder)) == 10


def test_the_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECUREGAN_KEYS", str(tmp_path / "mine"))
    assert KeyRing.open().folder == tmp_path / "mine"
    monkeypatch.delenv("SECUREGAN_KEYS")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".config" / "securegan" / "keys"


def _damaged(text: str) -> Iterator[str]:
    found = json.loads(text)
    key = found["keys"][0]
    yield text[:-5]
    yield "[]"
    yield text.replace('"format": 1', '"format": 2')
    yield text.replace('"format": 1', '"format": 1, "format": 1')
    for name, value in (
        ("kind", "rsa"),
        ("status", "trusted"),
        ("purposes", ["everything"]),
        ("created", "yesterday"),
        ("kid", "../../etc/passwd"),
        ("public", "00" * 32),
        ("revoked_at", key["created"]),
        ("sealed", None),
    ):
        yield json.dumps({"format": 1, "keys": [{**key, name: value}]})
    yield json.dumps({"format": 1, "keys": [{**key, "more": 1}]})
    yield json.dumps({"format": 1, "keys": [key, key]})


def test_a_damaged_ring_is_refused_by_name(ring: KeyRing, folder: Path) -> None:
    ring.new("archive")
    path = folder / "ring.json"
    for text in _damaged(path.read_text()):
        path.write_text(text)
        with pytest.raises(UserError, match=r"ring\.json"):
            KeyRing.open(folder)


@given(kind=st.sampled_from(KINDS), secret=st.binary(min_size=32, max_size=32))
def test_keys_as_text_come_back(kind: str, secret: bytes) -> None:
    key = Key("0" * 32, "a", "aes256", PURPOSES["aes256"], now(), now())
    assert Key.from_json(json.loads(json.dumps(key.to_json()))) == key
    assert secret_from_text(secret.hex(), "VARIABLE") == secret
    if kind != "aes256":
        assert public_from_pem(pem_of(kind, secret), "a file") == (kind, secret)
