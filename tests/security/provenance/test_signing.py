"""Ed25519 against RFC 8032's and Wycheproof's vectors and against another library."""

import copy
import json
import pickle
from pathlib import Path

import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

from securegan.errors import UserError
from securegan.security.keys.secret import pem_of
from securegan.security.provenance.signing import PRIME, PublicKey, Signer, read_public

WYCHEPROOF = json.loads((Path(__file__).parent / "vectors" / "ed25519_wycheproof.json").read_text())["tests"]
RFC_8032 = [  # section 7.1: seed, public key, message, signature
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_rfc_8032_vectors_in_both_libraries(seed: str, public: str, message: str, signature: str) -> None:
    signer, text, signed = Signer(bytes.fromhex(seed)), bytes.fromhex(message), bytes.fromhex(signature)
    assert signer.public.raw.hex() == public and signer.sign(text) == signed
    assert signer.public.verifies(signed, text) and not signer.public.verifies(signed, text + b"\0")
    other = ECC.construct(curve="Ed25519", seed=bytes.fromhex(seed))
    assert eddsa.new(other, "rfc8032").sign(text) == signed
    eddsa.new(eddsa.import_public_key(bytes.fromhex(public)), "rfc8032").verify(text, signed)


def test_wycheproof_vectors() -> None:
    assert len(WYCHEPROOF) == 151
    for case in WYCHEPROOF:
        key = PublicKey(bytes.fromhex(case["public"]))
        signature, message = bytes.fromhex(case["signature"]), bytes.fromhex(case["message"])
        assert key.verifies(signature, message) == case["valid"], case


def test_every_signature_of_one_library_verifies_in_the_other() -> None:
    for number in range(20):
        signer, message = Signer(bytes([number]) * 32), bytes(number)
        eddsa.new(eddsa.import_public_key(signer.public.raw), "rfc8032").verify(message, signer.sign(message))
        other = ECC.construct(curve="Ed25519", seed=bytes([number]) * 32)
        assert signer.public.verifies(eddsa.new(other, "rfc8032").sign(message), message)
        assert signer.public.pem().strip() == other.public_key().export_key(format="PEM").strip()


def test_points_of_small_order_are_no_keys() -> None:
    """Eight times each is the neutral element (RFC 8032, 5.1.4, in affine coordinates); so anybody signs for them."""
    d = -121665 * pow(121666, -1, PRIME) % PRIME
    refused = 0
    for y in {0, 1, PRIME - 1, *_orders_of_eight(d)}:
        for sign in (0, 1):
            with pytest.raises(ValueError, match="small order"):
                PublicKey((y | sign << 255).to_bytes(32, "little"))
            refused += 1
    assert refused == 10
    for y in (PRIME, PRIME + 1, 2**255 - 1):  # the same points, and others, in encodings that are not their own
        with pytest.raises(ValueError, match="encoding"):
            PublicKey(y.to_bytes(32, "little"))


def _orders_of_eight(d: int) -> list[int]:
    """The y of points whose double has y = 0: there x^2 = -y^2 and -x^2 + y^2 = 1 + d x^2 y^2, so d y^4 + 2 y^2 = 1."""
    root = pow(1 + d, (PRIME + 3) // 8, PRIME)
    if root * root % PRIME != (1 + d) % PRIME:
        root = root * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    found = []
    for square in ((-1 + root) * pow(d, -1, PRIME) % PRIME, (-1 - root) * pow(d, -1, PRIME) % PRIME):
        y = pow(square, (PRIME + 3) // 8, PRIME)
        if y * y % PRIME != square:
            y = y * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
        if y * y % PRIME == square:
            found += [y, PRIME - y]
    assert len(found) == 2
    return found


def test_secrets_are_absent_from_repr_and_cannot_be_pickled() -> None:
    seed = bytes(range(32))
    signer = Signer(seed)
    shown = repr(signer) + str(signer) + f"{signer!r}" + repr(vars(signer.public))
    assert seed.hex() not in shown and repr(seed)[2:-1] not in shown and signer.kid in shown
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(signer)
    with pytest.raises(UserError) as error:
        Signer(seed[:-1])
    assert seed[:-1].hex() not in str(error.value)


def test_a_key_in_pem_is_read_again(tmp_path: Path) -> None:
    public = Signer(b"k" * 32).public
    (tmp_path / "k.pem").write_text(public.pem())
    assert read_public(tmp_path / "k.pem") == public and len(public.kid) == 32
    other = ECC.generate(curve="p256").public_key().export_key(format="PEM")
    small = pem_of("ed25519", bytes(32))
    for text in ("", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", other, small):
        (tmp_path / "bad.pem").write_text(text)
        with pytest.raises(UserError, match=r"holds no"):
            read_public(tmp_path / "bad.pem")
    with pytest.raises(UserError, match="cannot be read"):
        read_public(tmp_path / "none.pem")
