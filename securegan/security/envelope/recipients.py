"""For whom an envelope is sealed, and who opens it: keys of a ring, keys from elsewhere, passwords.

A recipient wraps the data key into a stanza; an identity unwraps it again, or says that the stanza is not its own. A
stanza is bound to the context, the facts of its envelope: in another it opens nothing, though whoever was given the
data key knows what lies in it.
"""

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, Protocol

from securegan.errors import UserError
from securegan.security.envelope.backends import Backend, Forged
from securegan.security.envelope.chunked import expand
from securegan.security.envelope.header import ARGON2ID, HPKE, KEY_WRAP, SCRYPT, Facts, Header, Stanza
from securegan.security.envelope.passwords import (
    SALT,
    Argon2id,
    Derivation,
    Scrypt,
    password_bytes,
    require_strong,
)
from securegan.security.errors import PolicyError
from securegan.security.keys.key import Key
from securegan.security.keys.ring import KeyRing
from securegan.security.keys.secret import (
    SIZE,
    Kind,
    kid_of,
    kid_of_public,
    public_from_pem,
    public_part,
    read_secret,
    secret_from_text,
)

INFO = b"securegan.org/SGE1/hpke"
WRAP = b"securegan.org/SGE1/wrap"


class Recipient(Protocol):
    """One for whom an envelope is sealed."""

    def wrap(self, key: bytes, header: Facts, context: bytes, backend: Backend) -> Stanza:
        """The data ``key`` for this recipient. Raises PolicyError where it is not for the header's purpose."""


class Identity(Protocol):
    """One who may open envelopes."""

    def unwrap(self, stanza: Stanza, header: Facts, context: bytes, backend: Backend) -> bytes | None:
        """The data key, or None where the stanza is another's. Raises Forged, or PolicyError for a key out of use."""


class _Unpicklable:
    """Holds a secret, which no checkpoint and no log may hold."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a secret and is not pickled")


def _wrapping(secret: bytes, context: bytes) -> bytes:
    """The key of AES-KWP, which has no associated data to bind ``context`` by: one for each context."""
    return expand(secret, WRAP + context, SIZE)


class SecretKey(_Unpicklable):
    """32 secret bytes from anywhere: recipient and identity at once. ``kind`` aes256 or x25519."""

    def __init__(self, secret: bytes, kind: Kind = "aes256") -> None:
        if len(secret) != SIZE or kind == "ed25519":
            raise UserError(f"envelopes are sealed by keys of {SIZE} bytes for aes256 or x25519.")
        self._secret, self.kind = secret, kind
        self.kid = kid_of(kind, secret)

    def __repr__(self) -> str:
        return f"SecretKey(kid={self.kid!r}, kind={self.kind!r})"

    @classmethod
    def from_file(cls, path: Path, kind: Kind = "aes256") -> "SecretKey":
        """Raises UserError where the file is missing, open to others or not of 32 bytes."""
        return cls(read_secret(path), kind)

    @classmethod
    def from_environment(cls, variable: str, kind: Kind = "aes256") -> "SecretKey":
        """64 hex digits or base64. Raises UserError where the variable is missing or holds anything else."""
        text = os.environ.get(variable)
        if text is None:
            raise UserError(f"the environment variable {variable}, which is to hold a key, is not set.")
        return cls(secret_from_text(text, f"the environment variable {variable}"), kind)

    @classmethod
    def from_callable(cls, ask: Callable[[], bytes], kind: Kind = "aes256") -> "SecretKey":
        """What ``ask``, such as a client of a key service, returns: 32 bytes."""
        return cls(bytes(ask()), kind)

    def wrap(self, key: bytes, header: Facts, context: bytes, backend: Backend) -> Stanza:
        kid = bytes.fromhex(self.kid)
        if self.kind == "aes256":
            return Stanza(KEY_WRAP, kid + backend.wrap(_wrapping(self._secret, context), key))
        public = public_part(self.kind, self._secret)
        assert public is not None
        return PublicKey(public).wrap(key, header, context, backend)

    def unwrap(self, stanza: Stanza, header: Facts, context: bytes, backend: Backend) -> bytes | None:
        wanted = KEY_WRAP if self.kind == "aes256" else HPKE
        if stanza.type != wanted or stanza.kid != self.kid:
            return None
        wrapped = stanza.body[16:]
        if self.kind == "aes256":
            return backend.unwrap(_wrapping(self._secret, context), wrapped)
        return backend.open_with(self._secret, wrapped, INFO + context)


class PublicKey:
    """Somebody's X25519 key: seals for them, and opens nothing."""

    def __init__(self, public: bytes) -> None:
        self.public = public
        self.kid = kid_of_public("x25519", public)

    def __repr__(self) -> str:
        return f"PublicKey(kid={self.kid!r})"

    @classmethod
    def from_file(cls, path: Path) -> "PublicKey":
        """A PEM file. Raises UserError where it is none, or of a key that signs."""
        try:
            kind, public = public_from_pem(path.read_text(encoding="ascii"), path)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read as a public key: {error}.") from error
        if kind != "x25519":
            raise UserError(f"{path} holds a key that signs: envelopes are sealed for X25519 keys.")
        return cls(public)

    def wrap(self, key: bytes, header: Facts, context: bytes, backend: Backend) -> Stanza:
        try:
            return Stanza(HPKE, bytes.fromhex(self.kid) + backend.seal_to(self.public, key, INFO + context))
        except Forged:
            raise PolicyError(f"the public key {self.kid[:8]} is no point that anything can be sealed for.") from None


class Password(_Unpicklable):
    """Recipient and identity at once; ``derivation`` is for sealing alone, whoever opens follows the envelope's."""

    def __init__(self, password: str, derivation: Derivation | None = None) -> None:
        self._password = password
        self.derivation = derivation or Argon2id()

    def __repr__(self) -> str:
        return f"Password({self.derivation})"

    def wrap(self, key: bytes, header: Facts, context: bytes, backend: Backend) -> Stanza:
        require_strong(self._password)
        salt = secrets.token_bytes(SALT)
        wrapping = _wrapping(self.derivation.derive(password_bytes(self._password), salt), context)
        kind = ARGON2ID if isinstance(self.derivation, Argon2id) else SCRYPT
        return Stanza(kind, salt + self.derivation.encode() + backend.wrap(wrapping, key))

    def unwrap(self, stanza: Stanza, header: Facts, context: bytes, backend: Backend) -> bytes | None:
        if stanza.kid is not None:
            return None
        salt, parameters, wrapped = stanza.body[:SALT], stanza.body[SALT:-40], stanza.body[-40:]
        kind = Argon2id if stanza.type == ARGON2ID else Scrypt
        derived = kind.decode(parameters).derive(password_bytes(self._password), salt)
        return backend.unwrap(_wrapping(derived, context), wrapped)


class RingKey:
    """A key of a ring as recipient: it must be active and for the envelope's purpose."""

    def __init__(self, ring: KeyRing, key: Key) -> None:
        self._ring, self.key = ring, key

    def __repr__(self) -> str:
        return f"RingKey({self.key})"

    def wrap(self, key: bytes, header: Facts, context: bytes, backend: Backend) -> Stanza:
        self.key.require("seal", header.purpose)
        if self.key.public is not None:
            return PublicKey(self.key.public).wrap(key, header, context, backend)
        return SecretKey(self._ring.secret(self.key), self.key.kind).wrap(key, header, context, backend)


class Ring:
    """A whole ring as identity, or some of its ``keys``.

    ``even_revoked`` is for saving what was sealed by a key that is out of use: rewrap it for another.
    """

    def __init__(self, ring: KeyRing, keys: Sequence[Key] | None = None, *, even_revoked: bool = False) -> None:
        self._ring, self._even_revoked = ring, even_revoked
        self._keys = {key.kid: key for key in (ring if keys is None else keys)}

    def __repr__(self) -> str:
        return f"Ring({self._ring!r})"

    def unwrap(self, stanza: Stanza, header: Facts, context: bytes, backend: Backend) -> bytes | None:
        key = self._keys.get(stanza.kid or "")
        if key is None or key.kind == "ed25519":
            return None
        pardoned = self._even_revoked and key.status == "revoked"
        (replace(key, status="decrypt-only") if pardoned else key).require("open", header.purpose)
        return SecretKey(self._ring.secret(key), key.kind).unwrap(stanza, header, context, backend)


def seal_header(facts: Facts, recipients: Sequence[Recipient], key: bytes, backend: Backend) -> Header:
    """The header that gives the data ``key`` to every recipient."""
    if not recipients:
        raise UserError("an envelope needs a recipient: a key or a password.")
    context = Header(facts, (), b"").context
    return Header.make(facts, [one.wrap(key, facts, context, backend) for one in recipients], key)


def unlock(header: Header, identities: Sequence[Identity], backend: Backend) -> bytes:
    """The data key, the header checked by it.

    Raises Forged where a stanza or the MAC is wrong, PolicyError where no identity is among the recipients or those
    that are must not be used.
    """
    refused: PolicyError | None = None
    for stanza in header.stanzas:
        for identity in identities:
            try:
                key = identity.unwrap(stanza, header.facts, header.context, backend)
            except PolicyError as error:
                refused = refused or error
                continue
            if key is not None:
                if len(key) != SIZE:
                    raise Forged
                header.verify(key)
                return key
    if refused is not None:
        raise refused
    wanted = [f"key {stanza.kid[:8]}" if stanza.kid else "a password" for stanza in header.stanzas]
    raise PolicyError(f"it is sealed for {' or '.join(wanted)}, and no such was given.")
