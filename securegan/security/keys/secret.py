"""Secret bytes: made, kept in files that nobody else may read, and named by what gives nothing of them away."""

import base64
import hashlib
import hmac
import os
import re
import stat
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from securegan.errors import UserError
from securegan.security.durable import written

Kind = Literal["aes256", "x25519", "ed25519"]

SIZE = 32  # bytes of every secret and of every public key
SPKI = {  # RFC 8410: what stands before the 32 bytes of a SubjectPublicKeyInfo
    "x25519": bytes.fromhex("302a300506032b656e032100"),
    "ed25519": bytes.fromhex("302a300506032b6570032100"),
}
PEM = re.compile(r"\s*-----BEGIN PUBLIC KEY-----\n([A-Za-z0-9+/=\n]+)-----END PUBLIC KEY-----\s*")


def public_part(kind: Kind, secret: bytes) -> bytes | None:
    """The 32 public bytes; a symmetric key has none."""
    if kind == "x25519":
        return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    if kind == "ed25519":
        return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    return None


def kid_of_public(kind: Kind, public: bytes) -> str:
    """32 hex digits: SHA-256 of the SubjectPublicKeyInfo, cut to 16 bytes."""
    return hashlib.sha256(SPKI[kind] + public).hexdigest()[:32]


def kid_of(kind: Kind, secret: bytes) -> str:
    """32 hex digits; a symmetric key's are a MAC under the key, which tells no more than that two keys are the same."""
    public = public_part(kind, secret)
    if public is not None:
        return kid_of_public(kind, public)
    return hmac.new(secret, b"securegan.org/key-id", hashlib.sha256).hexdigest()[:32]


def pem_of(kind: Kind, public: bytes) -> str:
    """A public key as others read it: PEM around a SubjectPublicKeyInfo."""
    text = base64.b64encode(SPKI[kind] + public).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"


def public_from_pem(text: str, of: object) -> tuple[Kind, bytes]:
    """Kind and 32 bytes. Raises UserError, naming ``of``, where ``text`` is nothing that :func:`pem_of` wrote."""
    found = PEM.fullmatch(text)
    try:
        data = base64.b64decode(found[1].replace("\n", ""), validate=True) if found else b""
    except ValueError:
        data = b""
    kinds: tuple[Kind, ...] = ("x25519", "ed25519")
    for kind in kinds:
        public = data[len(SPKI[kind]) :]
        if len(public) == SIZE and pem_of(kind, public).split() == text.split():  # one key has one text
            return kind, public
    raise UserError(f"{of} holds no X25519 or Ed25519 public key in PEM.")


def write_secret(path: Path, secret: bytes) -> None:
    """A new file of mode 0600, on the disk when this returns."""
    with written(path) as file:
        file.write(secret)


def read_secret(path: Path) -> bytes:
    """32 bytes. Raises UserError where the file is missing, a link, of another size or open to others."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UserError(f"the key {path} cannot be read: {error.strerror}.") from error
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"the key {path} is not a file.")
        if found.st_mode & 0o077:
            raise UserError(f"the key {path} is open to others: chmod 600 {path}, and rotate it if they read it.")
        secret = file.read(SIZE + 1)
    if len(secret) != SIZE:
        raise UserError(f"the key {path} does not have {SIZE} bytes.")
    return secret


def secret_from_text(text: str, of: str) -> bytes:
    """32 bytes from 64 hex digits or base64, as an environment variable holds them. Raises UserError, naming ``of``."""
    text = text.strip()
    try:
        secret = bytes.fromhex(text) if len(text) == 2 * SIZE else base64.b64decode(text, validate=True)
    except ValueError:
        secret = b""
    if len(secret) != SIZE:
        raise UserError(f"{of} does not hold {SIZE} bytes as hex digits or base64.") from None
    return secret
