"""The ciphers of the package ``pycryptodome``: an implementation of its own, slower, to check the other one by.

Its defaults are not ours (nonces of 16 bytes, tags as short as 4, plaintext given out before the tag is checked):
``AES.new`` stands in this file and nowhere else.
"""

from Crypto.Cipher import AES
from Crypto.Protocol import HPKE
from Crypto.Protocol.DH import import_x25519_private_key, import_x25519_public_key

from securegan.security.envelope.backends import NONCE, TAG, Backend, Forged

ENCAPSULATED = 32  # bytes of an encapsulated X25519 key


class _Cipher:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, nonce: bytes, plain: memoryview, sealed: memoryview) -> None:
        gcm = self._new(nonce)
        gcm.encrypt(plain, output=sealed[:-TAG])
        sealed[-TAG:] = gcm.digest()

    def open(self, nonce: bytes, sealed: memoryview, plain: memoryview) -> None:
        gcm = self._new(nonce)
        gcm.decrypt(sealed[:-TAG], output=plain)
        try:
            gcm.verify(bytes(sealed[-TAG:]))
        except ValueError:
            plain[:] = bytes(len(plain))
            raise Forged from None

    def _new(self, nonce: bytes):  # type: ignore[no-untyped-def]
        if len(nonce) != NONCE:
            raise ValueError(f"GCM is used with nonces of {NONCE} bytes")
        return AES.new(self._key, AES.MODE_GCM, nonce=nonce, mac_len=TAG)


class _Pycryptodome:
    name = "pycryptodome"

    def cipher(self, key: bytes) -> _Cipher:
        return _Cipher(key)

    def wrap(self, kek: bytes, key: bytes) -> bytes:
        wrapped: bytes = AES.new(kek, AES.MODE_KWP).seal(key)
        return wrapped

    def unwrap(self, kek: bytes, wrapped: bytes) -> bytes:
        try:
            key: bytes = AES.new(kek, AES.MODE_KWP).unseal(wrapped)
        except ValueError:
            raise Forged from None
        return key

    def seal_to(self, public: bytes, plain: bytes, info: bytes) -> bytes:
        try:
            receiver = import_x25519_public_key(public)
            context = HPKE.new(receiver_key=receiver, aead_id=HPKE.AEAD.AES256_GCM, info=info)
        except ValueError:
            raise Forged from None
        sealed: bytes = context.enc + context.seal(plain)
        return sealed

    def open_with(self, private: bytes, sealed: bytes, info: bytes) -> bytes:
        try:
            receiver = import_x25519_private_key(private)
            encapsulated, text = sealed[:ENCAPSULATED], sealed[ENCAPSULATED:]
            context = HPKE.new(receiver_key=receiver, aead_id=HPKE.AEAD.AES256_GCM, enc=encapsulated, info=info)
            plain: bytes = context.unseal(text)
        except ValueError:
            raise Forged from None
        return plain


BACKEND: Backend = _Pycryptodome()
