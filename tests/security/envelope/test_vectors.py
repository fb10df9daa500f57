"""Published vectors: of Project Wycheproof (github.com/C2SP/wycheproof, Apache-2.0, commit dac1dd4), of RFCs 5649 and
7914, of BoringSSL and of the reference implementation of Argon2.

Of Wycheproof's files, ``wycheproof_cobblestone_256.json`` is whole; of AES-KWP there are the keys of 256 bits, of
AES-GCM those of 256 bits with nonces of 96 and no associated data.
"""

import hashlib
import json
import zlib
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

import securegan
from securegan.security.envelope import chunked
from securegan.security.envelope.backends import BACKENDS, TAG, Backend, Forged, load_backend
from securegan.security.envelope.chunked import Opener, Sealer, expand

VECTORS = Path(__file__).parent / "vectors"


def wycheproof(name: str) -> list[dict[str, Any]]:
    found = json.loads((VECTORS / f"wycheproof_{name}.json").read_text())
    tests = [*chain.from_iterable(group["tests"] for group in found["testGroups"])]
    assert len(tests) == found["numberOfTests"]
    return tests


def vector(names: list[str], found: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(found[name]) for name in names]


def opened_before_refusal(backend: Backend, key: bytes, context: bytes, sealed: bytes) -> tuple[bytes, bool]:
    """What a reader of the stream has seen, and whether the message was refused."""
    plain = bytearray()
    try:
        for block in Opener(key, context, BytesIO(sealed), backend).blocks():
            plain += block
    except (Forged, ValueError):
        return bytes(plain), True
    return bytes(plain), False


@pytest.mark.parametrize("test", wycheproof("cobblestone_256"), ids=lambda test: f"{test['tcId']}-{test['comment']}")
def test_wycheproof_cobblestone_256(test: dict[str, Any], backend: Backend, salts_repeat: None) -> None:
    key, context = vector(["key", "ctx"], test)
    sealed = zlib.decompress(bytes.fromhex(test["ct"]))
    plain, refused = opened_before_refusal(backend, key, context, sealed)
    assert refused == (test["result"] == "invalid")
    if refused:
        assert len(plain) <= test.get("msgLength", 0)
        return
    assert (len(plain), hashlib.sha512(plain).hexdigest()) == (test["msgLength"], test["msgSha512"])
    derived = chunked._derive(key, sealed[:24], context)
    assert (derived.key.hex(), derived.nonce.to_bytes(12, "big").hex()) == (test["aeadKey"], test["baseNonce"])
    again = BytesIO()
    sealer = Sealer(key, context, again, backend, salt=sealed[:24])
    sealer.write(plain)
    sealer.finish()
    assert again.getvalue() == sealed


@pytest.mark.parametrize("test", wycheproof("aes_gcm"), ids=lambda test: str(test["tcId"]))
def test_wycheproof_aes_256_gcm(test: dict[str, Any], backend: Backend) -> None:
    key, nonce, plain, text, tag = vector(["key", "iv", "msg", "ct", "tag"], test)
    cipher, opened = backend.cipher(key), bytearray(len(text))
    if test["result"] == "valid":
        sealed = bytearray(len(plain) + TAG)
        cipher.seal(nonce, memoryview(plain), memoryview(sealed))
        assert sealed == text + tag
        cipher.open(nonce, memoryview(text + tag), memoryview(opened))
        assert opened == plain
    else:
        with pytest.raises(Forged):
            cipher.open(nonce, memoryview(text + tag), memoryview(opened))
        if backend.name == "pycryptodome":  # which gives out what it has not checked
            assert not any(opened)


@pytest.mark.parametrize("test", wycheproof("aes_kwp"), ids=lambda test: str(test["tcId"]))
def test_wycheproof_aes_kwp(test: dict[str, Any], backend: Backend) -> None:
    kek, key, wrapped = vector(["key", "msg", "ct"], test)
    if test["result"] == "valid":
        assert backend.unwrap(kek, wrapped) == key
        assert backend.wrap(kek, key) == wrapped
    else:
        with pytest.raises(Forged):
            backend.unwrap(kek, wrapped)


def test_rfc_5649_key_wrap(backend: Backend) -> None:
    """Section 6: 20 octets under a key of 192 bits."""
    kek = bytes.fromhex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
    key = bytes.fromhex("c37b7e6492584340bed12207808941155068f738")
    wrapped = bytes.fromhex("138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a")
    assert backend.wrap(kek, key) == wrapped and backend.unwrap(kek, wrapped) == key


@pytest.mark.parametrize("length", [1, 32, 64, 65, 76, 200])
def test_expand_is_hkdf_expand_with_sha_512(length: int) -> None:
    key, info = bytes(range(64)), b"what it is for"
    assert expand(key, info, length) == HKDFExpand(hashes.SHA512(), length, info).derive(key)


HPKE_PRIVATE = bytes.fromhex("497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d")


def test_hpke_opens_what_it_sealed_and_nothing_else(backend: Backend) -> None:
    public = X25519PrivateKey.from_private_bytes(HPKE_PRIVATE).public_key().public_bytes_raw()
    sealed = backend.seal_to(public, b"k" * 32, b"info")
    assert len(sealed) == 80
    for name in BACKENDS:
        other = load_backend(name)
        assert other.open_with(HPKE_PRIVATE, sealed, b"info") == b"k" * 32
        for forged, info in [(sealed, b"Info"), (sealed[:-1], b"info"), (bytes(32) + sealed[32:], b"info")]:
            with pytest.raises(Forged):
                other.open_with(HPKE_PRIVATE, forged, info)
        for number in range(len(sealed)):
            forged = bytearray(sealed)
            forged[number] ^= 1
            with pytest.raises(Forged):
                other.open_with(HPKE_PRIVATE, bytes(forged), b"info")


def test_hpke_of_pycryptodome_gives_the_known_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9180 has none of AES-256-GCM with X25519: this is BoringSSL's (hpke_test_vectors.txt), with an ephemeral key.

    What pycryptodome seals, ``cryptography`` opens, above.
    """
    from Crypto.Protocol import HPKE
    from Crypto.Protocol.DH import import_x25519_private_key, import_x25519_public_key

    receiver = bytes.fromhex("ac66bae9ffa270cf4a89ed9f274e30c0456babae2572aaaf002ff0d8884ab018")
    ephemeral = bytes.fromhex("28e212563a8b6f068af7ff17400ff1baf23612b7a738bbaf5dfb321b2b5b431a")
    monkeypatch.setattr("Crypto.Protocol.HPKE.ECC.generate", lambda curve: import_x25519_private_key(ephemeral))
    context = HPKE.new(
        receiver_key=import_x25519_public_key(receiver), aead_id=HPKE.AEAD.AES256_GCM, info=b"Ode on a Grecian Urn"
    )
    sealed = context.seal(b"Beauty is truth, truth beauty", b"Count-0")
    assert sealed.hex() == (
        "23ded2d5d90ea89d975dac4792b297240f194952d7421aacbff0474100052b6bb8aa58d18ef6c42b6960e2e28f"
    )


def test_ciphers_are_made_in_one_file_a_library() -> None:
    package = Path(securegan.__file__).parent
    for made, allowed in (("AES.new", "with_pycryptodome.py"), ("AESGCM(", "with_cryptography.py")):
        found = {path.name for path in package.rglob("*.py") if made in path.read_text()}
        assert found == {allowed}


LOW_ORDER = [  # of Wycheproof's x25519_test.json, LowOrderPublic
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("point", LOW_ORDER)
def test_nothing_is_sealed_for_points_of_low_order(point: str, backend: Backend) -> None:
    with pytest.raises(Forged):
        backend.seal_to(bytes.fromhex(point), b"k" * 32, b"")
    with pytest.raises(Forged):
        backend.open_with(HPKE_PRIVATE, bytes.fromhex(point) + bytes(48), b"")


def test_cobblestone_of_the_library_opens_ours_and_ours_opens_its(backend: Backend) -> None:
    """A third implementation: that of ``cryptography`` itself, from release 50 on."""
    native = pytest.importorskip("cryptography.cobblestone")
    key, context = bytes(range(32)), b"context"
    for size in (0, 1, 16383, 16384, 16385, 3 * 16384, 70 * 16384 + 5):
        plain = bytes(number * 7 % 251 for number in range(997)) * (size // 997 + 1)
        plain = plain[:size]
        ours = BytesIO()
        sealer = Sealer(key, context, ours, backend)
        sealer.write(plain)
        sealer.finish()
        decryptor = native.Cobblestone256Decryptor(key, context)
        assert decryptor.update(ours.getvalue()) + decryptor.finalize() == plain
        encryptor = native.Cobblestone256Encryptor(key, context)
        theirs = encryptor.update(plain) + encryptor.finalize()
        assert opened_before_refusal(backend, key, context, theirs) == (plain, False)


def test_rfc_9106_argon2id() -> None:
    """RFC 9106 has no vector without secret and associated data, which no envelope has; this is the reference
    implementation's (phc-winner-argon2, test.c, version 0x13): t=2, m=65536, p=1.
    """
    found = Argon2id(salt=b"somesalt", length=32, iterations=2, lanes=1, memory_cost=65536).derive(b"password")
    assert found.hex() == "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"


def test_rfc_7914_scrypt() -> None:
    """Section 12, the third vector."""
    found = hashlib.scrypt(b"pleaseletmein", salt=b"SodiumChloride", n=16384, r=8, p=1, maxmem=1 << 26, dklen=64)
    assert found.hex() == (
        "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
    )
