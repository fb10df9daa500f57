"""The trust store: whose signatures count, for what and when; signed by a root key that is kept offline.

A verifier pins the root (its public key, once, from a source it believes). A store older than one seen before is
refused, and so is one past its time: whoever can replace files cannot bring back a key that was revoked, nor hold
revocations back for ever.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from filelock import FileLock, Timeout
from pydantic import AfterValidator, Field, StringConstraints, ValidationError

from securegan.errors import UserError
from securegan.security.durable import written
from securegan.security.errors import AuthenticationError, PolicyError
from securegan.security.keys.key import SKEW
from securegan.security.provenance import dsse, strict_json
from securegan.security.provenance.files import read_given
from securegan.security.provenance.memory import Memory
from securegan.security.provenance.signing import PublicKey, Signer
from securegan.security.provenance.statement import Count, Facts, Text, Time
from securegan.security.provenance.verdicts import Verdict
from securegan.security.spelling import as_text, from_base64, moment

KIND = "application/vnd.securegan.trust+json"
LIMIT = 4 * 2**20  # bytes of a store
PATIENCE = 60  # seconds for another process that changes a store
Purpose: TypeAlias = Literal["image", "checkpoint", "dataset", "run", "log"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


def _public(text: str) -> str:
    PublicKey(from_base64(text))
    return text


class Revocation(Facts):
    """``superseded``: signatures from before it stand; ``compromised``: those alone that a log held before it."""

    reason: Literal["superseded", "compromised"]
    at: Time


class TrustedKey(Facts):
    """A public key (base64 of its 32 bytes), what it may sign and when."""

    name: Text
    public: Annotated[str, StringConstraints(max_length=44), AfterValidator(_public)]
    purposes: Annotated[list[Purpose], Field(min_length=1)]
    since: Time
    until: Time
    revoked: Revocation | None = None

    @cached_property
    def key(self) -> PublicKey:
        return PublicKey(from_base64(self.public))

    @cached_property
    def valid(self) -> tuple[datetime, datetime]:
        """From when until when it signs."""
        return moment(self.since), moment(self.until)

    def standing(
        self, purpose: Purpose, signed: datetime, now: datetime | None = None, logged: datetime | None = None
    ) -> Verdict | None:
        """Why what it signed at ``signed`` does not count for ``purpose``, or None where it does.

        Args: logged: when a log that is trusted says it was there; the signer's own word on time is no proof of it.
        """
        since, until = self.valid
        if purpose not in self.purposes:
            return Verdict.WRONG_PURPOSE
        if self.revoked is not None:
            proven = signed if self.revoked.reason == "superseded" else logged
            if proven is None or proven >= moment(self.revoked.at):
                return Verdict.REVOKED
        if signed < since or signed > (now or datetime.now(UTC)) + SKEW:
            return Verdict.NOT_YET_VALID
        return Verdict.EXPIRED if signed > until else None


class Contents(Facts):
    """The text of a store."""

    format: Literal["securegan-trust-1"] = "securegan-trust-1"
    name: Text
    version: Annotated[Count, Field(ge=1)]
    time: Time
    until: Time
    keys: list[TrustedKey]


class Trust:
    """Keys that are trusted, by kid."""

    def __init__(self, contents: Contents, root: PublicKey | None = None) -> None:
        self.contents = contents
        self.keys = {key.key.kid: key for key in contents.keys}
        if len(self.keys) != len(contents.keys) or (root is not None and root.kid in self.keys):
            raise ValueError("a key stands twice, or the root among the keys")
        if any(since >= until for since, until in (key.valid for key in contents.keys)):
            raise ValueError("a key ends before it begins")

    def find(self, name: str) -> TrustedKey:
        """The key of a kid, the beginning of one, or a name. Raises UserError."""
        named = [key for kid, key in self.keys.items() if name == key.name or (len(name) >= 8 and kid.startswith(name))]
        if len(named) != 1:
            known = ", ".join(f"{key.name} ({kid[:8]})" for kid, key in self.keys.items()) or "none"
            raise UserError(f"'{name}' names {len(named) or 'no'} keys of the trust store: it has {known}.")
        return named[0]


def read_store(
    path: Path,
    memory: Memory,
    root: PublicKey | None = None,
    now: datetime | None = None,
    name: str | None = None,
) -> Trust:
    """The store of a file, which must be newer than, or the same as, what ``memory`` has seen of it and in its place.

    Args: root: believed for this once; else the roots pinned in ``memory`` are; name: that it must have, from now on.
    Raises UserError where there is none, AuthenticationError or PolicyError where it is refused.
    """
    data = read_given(path, LIMIT, "the trust store")
    contents, signed_by = _opened(data, path, memory, root)
    try:
        trust = Trust(contents, signed_by)
    except ValueError as error:
        raise PolicyError(f"{path} is refused: {error}.") from error
    if moment(contents.until) < (now or datetime.now(UTC)):
        raise PolicyError(f"{path} is refused: it was to be renewed by {contents.until}; ask its owner for a new one.")
    if name is not None and contents.name != name:
        raise PolicyError(f"{path} is refused: it is the store {contents.name}, not {name}.")
    digest = hashlib.sha256(data).hexdigest()
    memory.store(signed_by.kid, contents.name, contents.version, digest, path, meant=name is not None)
    return trust


@contextmanager
def as_mistake() -> Iterator[None]:
    """A forged store as a UserError: who names one is mistaken in it, and nothing was verified by it yet."""
    try:
        yield
    except AuthenticationError as error:
        raise UserError(str(error)) from error


def new_store(path: Path, name: str, root: Signer, memory: Memory, days: int = 365) -> Trust:
    """Make an empty store of version 1, and pin its root here. Raises UserError."""
    if path.exists():
        raise UserError(f"{path} exists: choose another name, or add keys to it with securegan trust add.")
    start = datetime.now(UTC)
    try:
        contents = Contents(name=name, version=1, time=as_text(start), until=_after(start, days), keys=[])
    except ValidationError as error:
        raise UserError(f"the store cannot be named '{name}': {error.errors()[0]['msg']}.") from error
    data = _signed(contents, root)
    memory.pin(root.public)
    with written(path, mode=0o644) as file:
        file.write(data)
        memory.store(
            root.kid, name, 1, hashlib.sha256(data).hexdigest(), path, meant=True
        )  # else it does not get its name
    return read_store(path, memory)


def change_store(
    path: Path,
    root: Signer,
    memory: Memory,
    change: Callable[[Sequence[TrustedKey]], list[TrustedKey]],
    days: int = 365,
) -> Trust:
    """The next version of a store, with other keys, good for ``days`` more; others wait meanwhile.

    Raises UserError or PolicyError, as :func:`.requirement.given_store` does.
    """
    with _alone(path), as_mistake():
        return _changed(path, root, memory, change, days)


def _changed(
    path: Path, root: Signer, memory: Memory, change: Callable[[Sequence[TrustedKey]], list[TrustedKey]], days: int
) -> Trust:
    data = read_given(path, LIMIT, "the trust store")
    contents, signed_by = _opened(data, path, memory, None)
    memory.store(signed_by.kid, contents.name, contents.version, hashlib.sha256(data).hexdigest(), path)
    if signed_by.kid != root.kid:
        raise UserError(f"{path} is under the root {signed_by.kid}, not under {root.kid}.")
    start = datetime.now(UTC)
    version, keys = contents.version + 1, change(contents.keys)
    update = {"version": version, "time": as_text(start), "until": _after(start, days), "keys": keys}
    changed = contents.model_copy(update=update)
    try:
        Trust(changed, root.public)
    except ValueError as error:
        raise UserError(f"{path} cannot be changed so: {error}.") from error
    with written(path, replace=True, mode=0o644) as file:
        file.write(_signed(changed, root))
    return read_store(path, memory)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Alone with a store, from reading it to writing it: the change of another process would be lost."""
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"{path} is being changed by another process: try again later.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        yield
    finally:
        lock.release()


def trusted_key(name: str, key: PublicKey, purposes: Sequence[Purpose], since: datetime, until: datetime) -> TrustedKey:
    """An entry for a store. Raises UserError."""
    try:
        return TrustedKey(
            name=name,
            public=b64encode(key.raw).decode(),
            purposes=list(purposes),
            since=as_text(since),
            until=as_text(until),
        )
    except ValidationError as error:
        said = error.errors()[0]
        raise UserError(f"the key cannot be added: {'.'.join(map(str, said['loc']))}: {said['msg']}.") from error


def revoke(
    keys: Sequence[TrustedKey], kid: str, reason: Literal["superseded", "compromised"], at: datetime
) -> list[TrustedKey]:
    """``keys`` with one of them revoked; what was said of a key before is kept where it is the stricter.

    Raises UserError for a time to come: until then everything would stand.
    """
    if at > datetime.now(UTC) + SKEW:
        raise UserError(f"a key cannot be revoked at {as_text(at)}, which has not come.")
    changed = []
    for key in keys:
        if key.key.kid == kid:
            before = key.revoked
            if before is not None and before.reason == "compromised" and reason == "superseded":
                raise UserError(f"{key.name} was revoked as compromised at {before.at}; that is not taken back.")
            first = at if before is None else min(at, moment(before.at))
            key = key.model_copy(update={"revoked": Revocation(reason=reason, at=as_text(first))})
        changed.append(key)
    return changed


def _opened(data: bytes, path: Path, memory: Memory, root: PublicKey | None) -> tuple[Contents, PublicKey]:
    envelope = dsse.read(data, KIND, path)
    key = root or memory.root(envelope.keyid)
    if key is None:
        raise PolicyError(
            f"{path} is refused: its root {envelope.keyid} is not pinned here; get the root's public key from somebody "
            f"you believe, and run securegan trust pin FILE."
        )
    try:
        value = strict_json.parse(envelope.payload(key, path), limit=LIMIT)
        return Contents.model_validate(value), key
    except ValueError as error:
        raise PolicyError(f"{path} is refused: it holds no trust store of a kind known here.") from error


def _signed(contents: Contents, root: Signer) -> bytes:
    return dsse.sign(KIND, strict_json.write(contents.model_dump(exclude_none=True)), root)


def _after(start: datetime, days: int) -> str:
    return as_text(start + timedelta(days=days))
