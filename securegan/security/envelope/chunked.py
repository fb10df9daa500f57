"""Cobblestone-256: AES-256-GCM in chunks of 16 KiB under a key derived for one message (c2sp.org/chunked-encryption).

``salt || commitment || chunk || chunk || ...``, the last chunk shorter than all others; the number of a chunk is in its
nonce. The commitment binds the key and the context, so that no text opens under two keys.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from securegan.security.envelope.backends import NONCE, TAG, Backend, Forged
from securegan.security.errors import PolicyError

KEY, SALT, COMMITMENT = 32, 24, 32  # bytes
CHUNK = 16 * 1024
SEALED = CHUNK + TAG
BATCH = 64  # chunks that are read, sealed and written at once
FIRST = 4  # chunks of the first batch, doubled with every one: fresh memory is what costs the most with a small file
CHUNKS = 1 << 38  # the longest message is one byte short of 4 PiB
LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"
REMEMBERED = 4096  # messages that this process has sealed last

_used: OrderedDict[bytes, None] = OrderedDict()  # their commitments, which stand for (key, salt, context)


@dataclass(frozen=True)
class _Derived:
    key: bytes = field(repr=False)
    nonce: int = field(repr=False)
    commitment: bytes


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-512 (RFC 5869, section 2.3)."""
    output = block = b""
    number = 1
    while len(output) < length:
        block = hmac.digest(key, block + info + bytes([number]), "sha512")
        output += block
        number += 1
    return output[:length]


def sealed_size(size: int) -> int:
    """Bytes of the sealed form of a message of ``size`` bytes."""
    return SALT + COMMITMENT + size + TAG * (size // CHUNK + 1)


class Sealer:
    """Takes a message in pieces by :meth:`write` and writes its sealed form to ``sink``; :meth:`finish` ends it."""

    def __init__(self, key: bytes, context: bytes, sink: BinaryIO, backend: Backend, *, salt: bytes | None = None):
        salt = secrets.token_bytes(SALT) if salt is None else salt
        derived = _derive(key, salt, context)
        _refuse_reuse(derived.commitment)
        self._cipher, self._nonce, self._sink = backend.cipher(derived.key), derived.nonce, sink
        self._next = 0
        self._held, self._holds = bytearray(CHUNK), 0
        self._out = bytearray()
        self._finished = False
        sink.write(salt + derived.commitment)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Seal what fills whole chunks and hold the rest."""
        if self._finished:
            raise ValueError("this message is finished")
        view = memoryview(data).cast("B")
        if self._holds:
            taken = min(CHUNK - self._holds, len(view))
            self._held[self._holds : self._holds + taken] = view[:taken]
            self._holds, view = self._holds + taken, view[taken:]
            if self._holds < CHUNK:
                return
            self._seal(memoryview(self._held))
        whole = len(view) - len(view) % CHUNK
        for start in range(0, whole, BATCH * CHUNK):
            self._seal(view[start : min(start + BATCH * CHUNK, whole)])
        self._holds = len(view) - whole
        self._held[: self._holds] = view[whole:]

    def finish(self) -> None:
        """Seal the last, short chunk, which is what says that the message is whole."""
        if self._finished:
            raise ValueError("this message is finished")
        self._finished = True
        self._seal(memoryview(self._held)[: self._holds], last=True)

    def _seal(self, plain: memoryview, *, last: bool = False) -> None:
        count = 1 if last else len(plain) // CHUNK
        _refuse_length(self._next + count)
        size = len(plain) + count * TAG
        if len(self._out) < size:
            self._out = bytearray(size)
        out, seal, base, first = memoryview(self._out), self._cipher.seal, self._nonce, self._next
        for number in range(count):
            nonce = (base ^ (first + number)).to_bytes(NONCE, "big")
            text = plain[number * CHUNK : (number + 1) * CHUNK]
            seal(nonce, text, out[number * SEALED : number * SEALED + len(text) + TAG])
        self._next += count
        self._sink.write(out[:size])


class Opener:
    """Reads a sealed message from ``source``, where it must end. Raises Forged at once where key or context differ."""

    def __init__(self, key: bytes, context: bytes, source: BinaryIO, backend: Backend) -> None:
        prefix = bytearray(SALT + COMMITMENT)
        if fill(source, memoryview(prefix)) < len(prefix):
            raise Forged
        derived = _derive(key, bytes(prefix[:SALT]), context)
        if not hmac.compare_digest(derived.commitment, bytes(prefix[SALT:])):
            raise Forged
        self._cipher, self._nonce, self._source = backend.cipher(derived.key), derived.nonce, source

    def blocks(self) -> Iterator[memoryview]:
        """The message, of which every byte was checked; a block is gone when the next is asked for.

        Only the end of the iteration says that the message is whole: until then Forged may still be raised.
        """
        first, sealed, plain = 0, _buffer(FIRST * SEALED), _buffer(FIRST * CHUNK)
        while True:
            size = fill(self._source, sealed)
            whole, rest = divmod(size, SEALED)
            ends = size < len(sealed)
            if ends and rest < TAG:
                raise Forged
            _refuse_length(first + whole + ends)
            length = self._open(sealed[:size], plain, first)
            if length:
                yield plain[:length]
            if ends:
                return
            first += whole
            if whole < BATCH:
                sealed, plain = _buffer(2 * whole * SEALED), _buffer(2 * whole * CHUNK)

    def _open(self, sealed: memoryview, plain: memoryview, first: int) -> int:
        opened, base, length = self._cipher.open, self._nonce, 0
        for number in range(-(-len(sealed) // SEALED)):
            text = sealed[number * SEALED : (number + 1) * SEALED]
            size = len(text) - TAG
            opened((base ^ (first + number)).to_bytes(NONCE, "big"), text, plain[length : length + size])
            length += size
        return length


def pieces(source: BinaryIO) -> Iterator[memoryview]:
    """All of ``source``; a piece is gone when the next is asked for."""
    view = _buffer(FIRST * CHUNK)
    while size := fill(source, view):
        yield view[:size]
        if len(view) < BATCH * CHUNK:
            view = _buffer(2 * len(view))


def fill(source: BinaryIO, view: memoryview) -> int:
    """Read until ``view`` is full or the source ends, however short a pipe's reads are; how much was read."""
    size = 0
    while size < len(view):
        read = source.readinto(view[size:])  # type: ignore[attr-defined]
        if not read:
            break
        size += read
    return size


def _buffer(size: int) -> memoryview:
    return memoryview(bytearray(size))


def _derive(key: bytes, salt: bytes, context: bytes) -> _Derived:
    if len(key) != KEY or len(salt) != SALT:
        raise ValueError(f"expected a key of {KEY} bytes and a salt of {SALT}")
    output = expand(key, LABEL + salt + context, KEY + NONCE + COMMITMENT)
    return _Derived(output[:KEY], int.from_bytes(output[KEY : KEY + NONCE], "big"), output[KEY + NONCE :])


def _refuse_reuse(commitment: bytes) -> None:
    """Raises PolicyError where the random numbers of this process repeat: a second text would betray both."""
    if commitment in _used:
        raise PolicyError("this key and salt have sealed a message before: the system's random numbers repeat.")
    _used[commitment] = None
    if len(_used) > REMEMBERED:
        _used.popitem(last=False)


def _refuse_length(chunks: int) -> None:
    if chunks > CHUNKS:
        raise PolicyError("a message of 4 PiB and more cannot be sealed or opened.")


def context_of(header: bytes) -> bytes:
    """The context of a message: the digest of the part of its header that never changes."""
    return hashlib.sha256(header).digest()
