"""Ed25519 (RFC 8032) over 32-byte seeds; a key is known by its kid, 16 bytes of the SHA-256 of its SPKI, in hex."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from securegan.errors import UserError
from securegan.security.keys.ring import KeyRing
from securegan.security.keys.secret import kid_of_public, pem_of, public_from_pem
from securegan.security.provenance.files import read_given

SEED = 32  # bytes, of a public key too
SIGNATURE = 64
PEM_LIMIT = 4096
PRIME = 2**255 - 19
# The y of the eight points of small order (0, 1, -1 and two of order 8): under such a key anybody's signature verifies.
SMALL = (
    0,
    1,
    PRIME - 1,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
)


@dataclass(frozen=True)
class PublicKey:
    """The public half, 32 bytes. Raises ValueError where they are no key that can be trusted."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != SEED:
            raise ValueError(f"a public key of {len(self.raw)} bytes, not {SEED}")
        y = int.from_bytes(self.raw, "little") & (2**255 - 1)
        if y >= PRIME or y in SMALL:
            raise ValueError("a public key of small order or in another than its own encoding")

    @cached_property
    def kid(self) -> str:
        """32 hexadecimal digits."""
        return kid_of_public("ed25519", self.raw)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the holder of the key signed ``message``."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def pem(self) -> str:
        """The key for others, as PEM (SPKI)."""
        return pem_of("ed25519", self.raw)

    @cached_property
    def _key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.raw)


class Signer:
    """The private half. Its seed is shown nowhere, and it cannot be pickled."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED:
            raise UserError(f"an Ed25519 key is {SEED} secret bytes; this one has {len(seed)}.")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(self._key.public_key().public_bytes_raw())

    @property
    def kid(self) -> str:
        return self.public.kid

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(message)

    def certify(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """A certificate under this key."""
        return builder.sign(self._key, None)

    def __repr__(self) -> str:
        return f"Signer({self.kid})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key that signs stays where it is: it is neither copied nor pickled")


def read_public(path: Path) -> PublicKey:
    """The Ed25519 key of a PEM file. Raises UserError."""
    text = read_given(path, PEM_LIMIT, "the public key").decode(errors="replace")
    try:
        kind, raw = public_from_pem(text, path)
        if kind != "ed25519":
            raise UserError(f"{path} holds a key that does not sign: Ed25519 keys do.")
        return PublicKey(raw)
    except ValueError as error:
        raise UserError(f"{path} holds no key to be trusted: {error}.") from error


def signer_of(ring: KeyRing, name: str, purpose: str) -> Signer:
    """The signing key of that name or kid in a key ring. Raises UserError; PolicyError where it must not sign that."""
    key = ring.find(name)
    key.require("sign", purpose)
    return Signer(ring.secret(key))


def log_keys_of(ring: KeyRing) -> tuple[PublicKey, ...]:
    """The keys of a ring that may have signed a log before; what a thief can sign is no log to go on with."""
    sound = (key for key in ring if "log" in key.purposes and key.reason != "compromised")
    return tuple(PublicKey(key.public) for key in sound if key.public)
