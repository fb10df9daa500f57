"""Signed notes and log checkpoints as C2SP specifies them (signed-note, tlog-checkpoint), with Ed25519 alone."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass

from securegan.security.errors import AuthenticationError
from securegan.security.provenance.merkle import HASH
from securegan.security.provenance.signing import SIGNATURE, PublicKey, Signer
from securegan.security.spelling import from_base64

LIMIT = 64 * 2**10  # bytes of a note
MAX_SIGNATURES = 32  # of which all but those of known keys are passed over
ED25519 = b"\x01"
NAME = re.compile(r"[^\s+\x00-\x1f\x7f-\x9f]{1,200}")
SIGNED = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


def key_id(name: str, key: PublicKey) -> bytes:
    """Four bytes that tell one key of a name from another."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + key.raw).digest()[:4]


def verifier_key(name: str, key: PublicKey) -> str:
    """The key as other programs that read signed notes take it (``vkey``)."""
    return f"{name}+{key_id(name, key).hex()}+{b64encode(ED25519 + key.raw).decode()}"


def sign_note(text: str, name: str, signer: Signer) -> bytes:
    """The signed note of ``text``, which ends in a newline."""
    signature = key_id(name, signer.public) + signer.sign(text.encode())
    return f"{text}\n— {name} {b64encode(signature).decode()}\n".encode()


def open_note(data: bytes, name: str, keys: Iterable[PublicKey], what: object) -> tuple[str, PublicKey]:
    """The text, and which of ``keys`` signed it under ``name``. Raises AuthenticationError about ``what``."""
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise AuthenticationError(what) from error
    text, parted, block = whole.rpartition("\n\n")
    lines = block.split("\n")
    if len(data) > LIMIT or not parted or CONTROL.search(whole) or lines.pop() or not 0 < len(lines) <= MAX_SIGNATURES:
        raise AuthenticationError(what)
    signatures = [SIGNED.fullmatch(line) for line in lines]
    found: PublicKey | None = None
    known = {key_id(name, key): key for key in keys}
    for each in signatures:
        if each is None:
            raise AuthenticationError(what)
        try:
            blob = from_base64(each[2])
        except ValueError as error:
            raise AuthenticationError(what) from error
        key = known.get(blob[:4]) if each[1] == name else None
        if key is None:
            continue
        if len(blob) != 4 + SIGNATURE or not key.verifies(blob[4:], f"{text}\n".encode()):
            raise AuthenticationError(what)
        found = found or key
    if found is None:
        raise AuthenticationError(what)
    return f"{text}\n", found


@dataclass(frozen=True)
class Checkpoint:
    """What a log promises: that its first ``size`` entries have this root, now and for ever."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.origin) or len(self.root) != HASH or self.size < 0:
            raise ValueError("a checkpoint without a name, size or root")

    def signed(self, signer: Signer) -> bytes:
        """The checkpoint as a signed note, under the log's name."""
        return sign_note(f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n", self.origin, signer)


def read_checkpoint(data: bytes, keys: Iterable[PublicKey], what: object) -> tuple[Checkpoint, PublicKey]:
    """The checkpoint of a signed note and its signer among ``keys``. Raises AuthenticationError about ``what``."""
    origin = data[:LIMIT].partition(b"\n")[0].decode(errors="replace")
    text, key = open_note(data, origin, keys, what)
    lines = text.split("\n")
    if len(lines) != 4 or not re.fullmatch(r"0|[1-9][0-9]{0,15}", lines[1]):
        raise AuthenticationError(what)
    try:
        return Checkpoint(lines[0], int(lines[1]), from_base64(lines[2])), key
    except ValueError as error:
        raise AuthenticationError(what) from error
