"""The ciphers of the package ``cryptography``, which are OpenSSL's."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from securegan.security.envelope.backends import Backend, Forged

HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class _Cipher:
    def __init__(self, key: bytes) -> None:
        gcm = AESGCM(key)
        self._encrypt, self._decrypt = gcm.encrypt_into, gcm.decrypt_into

    def seal(self, nonce: bytes, plain: memoryview, sealed: memoryview) -> None:
        self._encrypt(nonce, plain, None, sealed)

    def open(self, nonce: bytes, sealed: memoryview, plain: memoryview) -> None:
        try:
            self._decrypt(nonce, sealed, None, plain)
        except InvalidTag:
            raise Forged from None


class _Cryptography:
    name = "cryptography"

    def cipher(self, key: bytes) -> _Cipher:
        return _Cipher(key)

    def wrap(self, kek: bytes, key: bytes) -> bytes:
        return aes_key_wrap_with_padding(kek, key)

    def unwrap(self, kek: bytes, wrapped: bytes) -> bytes:
        try:
            return aes_key_unwrap_with_padding(kek, wrapped)
        except InvalidUnwrap:
            raise Forged from None

    def seal_to(self, public: bytes, plain: bytes, info: bytes) -> bytes:
        try:
            return HPKE.encrypt(plain, X25519PublicKey.from_public_bytes(public), info=info)
        except ValueError:  # a point of small order: the shared secret would be zero
            raise Forged from None

    def open_with(self, private: bytes, sealed: bytes, info: bytes) -> bytes:
        try:
            return HPKE.decrypt(sealed, X25519PrivateKey.from_private_bytes(private), info=info)
        except (InvalidTag, ValueError):
            raise Forged from None


BACKEND: Backend = _Cryptography()
