"""Keys from passwords: Argon2id (RFC 9106) or scrypt (RFC 7914), within bounds that hold for writing and for reading.

The floors are OWASP's; the ceilings keep a forged header from costing more than half a gigabyte and a few seconds.
"""

import hashlib
import struct
import unicodedata
from dataclasses import dataclass
from typing import TypeAlias

from securegan.errors import UserError
from securegan.security.errors import PolicyError

SALT, KEY = 16, 32  # bytes
SHORTEST = 12  # characters of a password that something is sealed by


@dataclass(frozen=True)
class Argon2id:
    """``memory`` in KiB; the defaults are RFC 9106's second recommendation."""

    memory: int = 64 * 1024
    passes: int = 3
    lanes: int = 4

    def __post_init__(self) -> None:
        if not (19 * 1024 <= self.memory <= 512 * 1024 and 2 <= self.passes <= 10 and 1 <= self.lanes <= 8):
            raise PolicyError(
                f"Argon2id with {self.memory} KiB, {self.passes} passes and {self.lanes} lanes is out of bounds: "
                "expected 19 to 512 MiB, 2 to 10 passes and 1 to 8 lanes."
            )

    def derive(self, password: bytes, salt: bytes) -> bytes:
        """32 bytes."""
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id as Derivation

        return Derivation(
            salt=salt, length=KEY, iterations=self.passes, lanes=self.lanes, memory_cost=self.memory
        ).derive(password)

    def encode(self) -> bytes:
        """9 bytes."""
        return struct.pack(">IIB", self.memory, self.passes, self.lanes)

    @classmethod
    def decode(cls, data: bytes) -> "Argon2id":
        """Raises PolicyError for what is out of bounds."""
        return cls(*struct.unpack(">IIB", data))


@dataclass(frozen=True)
class Scrypt:
    """N is 2 to the power of ``log_n``, r is 8."""

    log_n: int = 17
    parallel: int = 1

    def __post_init__(self) -> None:
        if not (17 <= self.log_n <= 19 and 1 <= self.parallel <= 4):
            raise PolicyError(
                f"scrypt with N=2^{self.log_n} and p={self.parallel} is out of bounds: expected N from 2^17 to 2^19 "
                "and p from 1 to 4."
            )

    def derive(self, password: bytes, salt: bytes) -> bytes:
        """32 bytes."""
        n = 1 << self.log_n
        return hashlib.scrypt(
            password, salt=salt, n=n, r=8, p=self.parallel, maxmem=2 * 128 * 8 * (n + self.parallel), dklen=KEY
        )

    def encode(self) -> bytes:
        """2 bytes."""
        return struct.pack(">BB", self.log_n, self.parallel)

    @classmethod
    def decode(cls, data: bytes) -> "Scrypt":
        """Raises PolicyError for what is out of bounds."""
        return cls(*struct.unpack(">BB", data))


Derivation: TypeAlias = Argon2id | Scrypt


def password_bytes(password: str) -> bytes:
    """UTF-8 in normal form NFC: the same password from every keyboard."""
    return unicodedata.normalize("NFC", password).encode()


def require_strong(password: str) -> None:
    """Raises UserError for a password too short to seal anything by."""
    if len(password) < SHORTEST:
        raise UserError(f"the password is too short: expected {SHORTEST} characters or more, such as five words.")
