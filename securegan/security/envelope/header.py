"""The header of an envelope, ``SGE1``: what it holds, for whom, and a MAC over all of it.

``magic(4) version(1) suite(1) size(2) facts | count(1) stanza... | mac(32)``, big-endian; a stanza is
``type(1) size(2) body``. What stands before the bar never changes and is the payload's context; the stanzas, each of
them the data key for one recipient, are exchanged by a rewrap. The MAC's key is derived from the data key.

Nothing here is chosen by the header: version and suite are indices into what this program knows, and there is one
encoding of every header.
"""

import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, Literal, get_args

from securegan.security.envelope.backends import Forged
from securegan.security.envelope.chunked import context_of, expand, fill
from securegan.security.errors import PolicyError
from securegan.security.keys.key import PURPOSES

Form = Literal["file", "folder"]

MAGIC, VERSION, SUITE = b"SGE1", 1, 2  # suite 2: Cobblestone-256, HMAC-SHA-256 over the header, stanzas bound to it
MAC = 32
STANZAS = 16  # at most
FORMS: tuple[Form, ...] = get_args(Form)
ENVELOPES = PURPOSES["aes256"]
LONGEST_ID = 255  # bytes
LATEST = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
LABEL = b"securegan.org/SGE1/header"

# Bytes of a stanza's body by its type.
KEY_WRAP, HPKE, ARGON2ID, SCRYPT = 1, 2, 3, 4
BODIES = {KEY_WRAP: 16 + 40, HPKE: 16 + 32 + 48, ARGON2ID: 16 + 9 + 40, SCRYPT: 16 + 2 + 40}


@dataclass(frozen=True)
class Facts:
    """What anybody may read of an envelope: nothing of it is secret, all of it is under the MAC.

    ``version`` of the object, from 1 on, or 0 for an object that has no versions; ``created`` to the second.
    """

    purpose: str
    object_id: str
    created: datetime
    version: int = 0
    form: Form = "file"

    def __post_init__(self) -> None:
        """Raises PolicyError for what no header can hold."""
        if self.purpose not in ENVELOPES:
            raise PolicyError(f"an envelope cannot be for the purpose {self.purpose!r}: {', '.join(ENVELOPES)}.")
        if not self.object_id.isprintable() or not 1 <= len(self.object_id.encode()) <= LONGEST_ID:
            raise PolicyError(f"an object's id has 1 to {LONGEST_ID} bytes, all of them printable.")
        if not 0 <= self.version < 1 << 63:
            raise PolicyError(f"an object's version cannot be {self.version}.")

    def encode(self) -> bytes:
        """The header's part that never changes."""
        purpose, object_id = self.purpose.encode(), self.object_id.encode()
        facts = struct.pack(">BB", FORMS.index(self.form), len(purpose)) + purpose
        facts += struct.pack(">B", len(object_id)) + object_id
        facts += struct.pack(">QQ", self.version, int(self.created.timestamp()))
        return MAGIC + struct.pack(">BBH", VERSION, SUITE, len(facts)) + facts

    @classmethod
    def decode(cls, facts: bytes) -> "Facts":
        """Raises Forged or PolicyError for what :meth:`encode` would not write."""
        try:
            form, size = struct.unpack_from(">BB", facts)
            purpose, facts = facts[2 : 2 + size].decode(), facts[2 + size :]
            size = facts[0]
            object_id, facts = facts[1 : 1 + size].decode(), facts[1 + size :]
            version, created = struct.unpack(">QQ", facts)
            moment = datetime.fromtimestamp(min(created, LATEST + 1), UTC)
            return cls(purpose, object_id, moment, version, FORMS[form])
        except (struct.error, UnicodeDecodeError, IndexError, ValueError, OverflowError):
            raise Forged from None


@dataclass(frozen=True)
class Stanza:
    """The data key for one recipient."""

    type: int
    body: bytes

    def encode(self) -> bytes:
        return struct.pack(">BH", self.type, len(self.body)) + self.body

    @property
    def kid(self) -> str | None:
        """Of the key that opens it, or None for a password."""
        return self.body[:16].hex() if self.type in (KEY_WRAP, HPKE) else None


@dataclass(frozen=True)
class Header:
    """As read from an envelope; only :meth:`verify` says that its makers had the data key."""

    facts: Facts
    stanzas: tuple[Stanza, ...]
    mac: bytes

    @property
    def context(self) -> bytes:
        """Of the payload."""
        return context_of(self.facts.encode())

    def encode(self) -> bytes:
        return _authenticated(self.facts, self.stanzas) + self.mac

    @classmethod
    def make(cls, facts: Facts, stanzas: Sequence[Stanza], key: bytes) -> "Header":
        """A header under the MAC of the data key. Raises PolicyError for too many stanzas or two passwords."""
        _check(stanzas)
        return cls(facts, tuple(stanzas), _mac(_authenticated(facts, stanzas), key))

    def verify(self, key: bytes) -> None:
        """Raises Forged where anything in the header is not what somebody with the data key wrote."""
        if not hmac.compare_digest(self.mac, _mac(_authenticated(self.facts, self.stanzas), key)):
            raise Forged

    @classmethod
    def read(cls, source: BinaryIO) -> "Header":
        """Of the source's first bytes and no more. Raises Forged, or PolicyError for facts that anybody can see."""
        if _exactly(source, 4) != MAGIC:
            raise PolicyError("it is no envelope of SecureGAN.")
        version, suite, size = struct.unpack(">BBH", _exactly(source, 4))
        if (version, suite) != (VERSION, SUITE):
            raise PolicyError(
                f"it is of version {version} and suite {suite}: expected version {VERSION} and suite {SUITE}; "
                "another SecureGAN may know it."
            )
        facts = Facts.decode(_exactly(source, size))
        count = _exactly(source, 1)[0]
        if not 1 <= count <= STANZAS:
            raise PolicyError(f"it is for {count} recipients: expected 1 to {STANZAS}.")
        stanzas = tuple(_read_stanza(source) for _ in range(count))
        _check(stanzas)
        return cls(facts, stanzas, _exactly(source, MAC))


def _read_stanza(source: BinaryIO) -> Stanza:
    kind, size = struct.unpack(">BH", _exactly(source, 3))
    if kind not in BODIES:
        raise PolicyError(f"it has a recipient of type {kind}, which this SecureGAN does not know.")
    if size != BODIES[kind]:
        raise Forged
    return Stanza(kind, _exactly(source, size))


def _check(stanzas: Sequence[Stanza]) -> None:
    """One password at most: each costs whoever opens it a derivation."""
    if not 1 <= len(stanzas) <= STANZAS:
        raise PolicyError(f"an envelope has 1 to {STANZAS} recipients, not {len(stanzas)}.")
    if sum(stanza.kid is None for stanza in stanzas) > 1:
        raise PolicyError("an envelope has one password at most.")


def _authenticated(facts: Facts, stanzas: Sequence[Stanza]) -> bytes:
    return facts.encode() + bytes([len(stanzas)]) + b"".join(stanza.encode() for stanza in stanzas)


def _mac(text: bytes, key: bytes) -> bytes:
    return hmac.digest(expand(key, LABEL, MAC), text, "sha256")


def _exactly(source: BinaryIO, size: int) -> bytes:
    data = bytearray(size)
    if fill(source, memoryview(data)) < size:
        raise Forged
    return bytes(data)
