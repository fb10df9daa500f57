"""What the envelope needs of a library of ciphers, and the libraries that have it.

``cryptography`` (OpenSSL) is the default, by measurement (``benchmarks/security.py``); ``pycryptodome`` is independent
of it, and each opens what the other has sealed.
"""

from importlib import import_module
from typing import Protocol

from securegan.errors import UserError, near_match

BACKENDS = ("cryptography", "pycryptodome")
NONCE, TAG = 12, 16  # bytes; nothing else is ever used with GCM here


class Forged(Exception):
    """A tag, a MAC or a length is wrong. Callers name the file and say no more (AuthenticationError)."""


class Cipher(Protocol):
    """AES-256-GCM under one key, without associated data."""

    def seal(self, nonce: bytes, plain: memoryview, sealed: memoryview) -> None:
        """Fill ``sealed``, 16 bytes longer than ``plain``, with ciphertext and tag."""

    def open(self, nonce: bytes, sealed: memoryview, plain: memoryview) -> None:
        """Fill ``plain``. Raises Forged, and then ``plain`` must not be looked at."""


class Backend(Protocol):
    """One library."""

    name: str

    def cipher(self, key: bytes) -> Cipher:
        """AES-256-GCM under ``key`` of 32 bytes."""

    def wrap(self, kek: bytes, key: bytes) -> bytes:
        """AES-KWP (RFC 5649): 8 bytes more than ``key``, which has a multiple of 8."""

    def unwrap(self, kek: bytes, wrapped: bytes) -> bytes:
        """Raises Forged."""

    def seal_to(self, public: bytes, plain: bytes, info: bytes) -> bytes:
        """HPKE (RFC 9180), base mode, single shot: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; 48 more."""

    def open_with(self, private: bytes, sealed: bytes, info: bytes) -> bytes:
        """Raises Forged."""


def load_backend(name: str = BACKENDS[0]) -> Backend:
    """The library of that name. Raises UserError for any other."""
    if name not in BACKENDS:
        raise UserError(f"there is no backend {name}: expected {', '.join(BACKENDS)}.{near_match(name, BACKENDS)}")
    backend: Backend = import_module(f"{__name__}.with_{name}").BACKEND
    return backend
