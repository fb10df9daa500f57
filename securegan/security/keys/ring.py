"""The key ring: a folder of mode 0700 with ``ring.json``, nothing of it secret, and ``<kid>.key`` of mode 0600."""

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from securegan.errors import UserError, near_match
from securegan.security.durable import flush_folder, written
from securegan.security.errors import PolicyError
from securegan.security.keys.key import KINDS, PURPOSES, Key, now
from securegan.security.keys.secret import SIZE, Kind, kid_of, public_part, read_secret, write_secret
from securegan.security.spelling import unique

FOLDER = "SECUREGAN_KEYS"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
KID = re.compile(r"[0-9a-f]{32}")
REASONS = ("compromised", "superseded", "retired")
PATIENCE = 10  # seconds for another process that writes the ring


def default_folder() -> Path:
    """``$SECUREGAN_KEYS``, else ``~/.config/securegan/keys``."""
    named = os.environ.get(FOLDER)
    return Path(named) if named else Path.home() / ".config" / "securegan" / "keys"


class KeyRing:
    """Keys by name or kid, their secrets read when they are asked for and never kept.

    One key of a name is active; those it has replaced open what they sealed. Two processes may write at once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._keys = self._read()

    @classmethod
    def open(cls, folder: Path | None = None) -> "KeyRing":
        """The ring of ``folder``, by default of :func:`default_folder`; a folder that is missing is an empty ring.

        Raises UserError where others may read the folder or ``ring.json`` is damaged.
        """
        return cls(folder or default_folder())

    def __repr__(self) -> str:
        return f"KeyRing({str(self.folder)!r}, {len(self._keys)} keys)"

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def new(
        self,
        name: str,
        kind: Kind = "aes256",
        purposes: Sequence[str] = (),
        expires: datetime | None = None,
        *,
        begins: datetime | None = None,
    ) -> Key:
        """A key of fresh random bytes, active at once or from ``begins`` on, for some or all purposes of its kind.

        Raises UserError where the name is not free, or anything else cannot be.
        """
        _check(name, kind, purposes, expires, begins)

        def add(keys: list[Key]) -> Key:
            taken = next((key for key in keys if key.name == name and key.status == "active"), None)
            if taken is not None:
                raise UserError(f"there is an active key {taken}: rotate it, or choose another name.")
            return self._make(keys, name, kind, tuple(purposes) or PURPOSES[kind], expires, begins)

        return self._change(add)

    def find(self, name_or_kid: str) -> Key:
        """The key of a kid (or of its first eight digits or more), or the newest of a name that still has a use.

        Raises PolicyError where there is none.
        """
        if _may_be_kid(name_or_kid):
            matching = [key for key in self._keys if key.kid.startswith(name_or_kid)]
            if len(matching) == 1:
                return matching[0]
            if matching:
                raise PolicyError(f"{name_or_kid} is the beginning of several keys' kids: give more digits.")
        named = [key for key in self._keys if key.name == name_or_kid]
        for status in ("active", "decrypt-only", "revoked"):
            of_status = [key for key in named if key.status == status]
            if of_status:
                return of_status[-1]
        names = {key.name for key in self._keys}
        raise PolicyError(f"the key ring {self.folder} has no key {name_or_kid}.{near_match(name_or_kid, names)}")

    def secret(self, key: Key) -> bytes:
        """The 32 secret bytes; what they may be used for is :meth:`Key.require`'s to say.

        Raises UserError where the file is missing, open to others, or does not hold this key.
        """
        path = self._path(key)
        secret = read_secret(path)
        if kid_of(key.kind, secret) != key.kid:
            raise UserError(f"{path} does not hold the key of that kid: restore it from a backup.")
        return secret

    def rotate(self, name: str) -> Key:
        """A new active key with the kind, purposes and length of life of the old one, which from now on only opens."""

        def change(keys: list[Key]) -> Key:
            old = self.find(name)
            if old.status != "active":
                raise PolicyError(f"key {old} is {old.status}: only an active key is rotated; make a new one.")
            keys[keys.index(old)] = replace(old, status="decrypt-only")
            expires = None if old.expires is None else now() + (old.expires - old.begins)
            return self._make(keys, old.name, old.kind, old.purposes, expires, None)

        return self._change(change)

    def revoke(self, name_or_kid: str, reason: str, at: datetime | None = None) -> Key:
        """From ``at`` on (now, by default) nothing is done with the key; its bytes stay, for a rewrap told to use them.

        A name means its active key. Raises UserError for a reason unknown, PolicyError for a key unknown or revoked.
        """
        if reason not in REASONS:
            raise UserError(
                f"the reason {reason} is not known: expected {', '.join(REASONS)}.{near_match(reason, REASONS)}"
            )

        def change(keys: list[Key]) -> Key:
            old = self.find(name_or_kid)
            if old.status == "revoked":
                raise PolicyError(f"key {old} was revoked before ({old.reason}).")
            revoked = replace(old, status="revoked", reason=reason, revoked_at=at or now())
            keys[keys.index(old)] = revoked
            return revoked

        return self._change(change)

    def count(self, key: Key, sealed: int) -> None:
        """Add to the number of envelopes that ``key`` has sealed."""

        def change(keys: list[Key]) -> Key:
            old = self.find(key.kid)
            counted = replace(old, sealed=old.sealed + sealed)
            keys[keys.index(old)] = counted
            return counted

        self._change(change)

    def _make(
        self,
        keys: list[Key],
        name: str,
        kind: Kind,
        purposes: tuple[str, ...],
        expires: datetime | None,
        begins: datetime | None,
    ) -> Key:
        """The secret reaches the disk before the ring names it: a kill between the two leaves a file without use."""
        secret, created = secrets.token_bytes(SIZE), now()
        key = Key(
            kid=kid_of(kind, secret),
            name=name,
            kind=kind,
            purposes=purposes,
            created=created,
            begins=begins or created,
            expires=expires,
            public=public_part(kind, secret),
        )
        write_secret(self._path(key), secret)
        keys.append(key)
        return key

    def _path(self, key: Key) -> Path:
        return self.folder / f"{key.kid}.key"

    def _change(self, change: Callable[[list[Key]], Key]) -> Key:
        """Let ``change`` edit the keys as they are on the disk now, and write them; only one process at a time."""
        self._make_folder()
        try:
            with FileLock(self.folder / ".lock", timeout=PATIENCE, mode=0o600):
                self._keys = self._read()
                keys = [*self._keys]
                changed = change(keys)
                text = json.dumps({"format": 1, "keys": [key.to_json() for key in keys]}, indent=1) + "\n"
                with written(self.folder / "ring.json", replace=True) as file:
                    file.write(text.encode())
                self._keys = keys
        except Timeout as error:
            raise UserError(f"the key ring {self.folder} is in use by another process: try again.") from error
        except OSError as error:
            raise UserError(f"the key ring {self.folder} cannot be written: {error.strerror}.") from error
        return changed

    def _make_folder(self) -> None:
        if self.folder.is_dir():
            return
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UserError(f"the key ring {self.folder} cannot be made: {error.strerror}.") from error
        flush_folder(self.folder.parent)

    def _read(self) -> list[Key]:
        try:
            if self.folder.stat().st_mode & 0o077:
                raise UserError(f"the key ring {self.folder} is open to others: chmod 700 {self.folder}.")
            text = (self.folder / "ring.json").read_text()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"the key ring {self.folder} cannot be read: {error}.") from error
        try:
            found = json.loads(text, object_pairs_hook=unique)
            if found.keys() != {"format", "keys"} or found["format"] != 1:
                raise ValueError("format")
            keys = [Key.from_json(one) for one in found["keys"]]
            if len({key.kid for key in keys}) != len(keys) or not all(KID.fullmatch(key.kid) for key in keys):
                raise ValueError("kid")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(f"{self.folder / 'ring.json'} is not a key ring's: restore it from a backup.") from error
        return keys


def _may_be_kid(text: str) -> bool:
    return len(text) >= 8 and KID.fullmatch(text.ljust(32, "0")) is not None


def _check(name: str, kind: Kind, purposes: Sequence[str], expires: datetime | None, begins: datetime | None) -> None:
    """Raises UserError for what no key can have."""
    if not NAME.fullmatch(name) or _may_be_kid(name):
        raise UserError(
            f"a key cannot be named {name!r}: expected up to 63 letters, digits, '.', '_' and '-' that could not be "
            "the hex digits of a kid."
        )
    if kind not in KINDS:
        raise UserError(f"there is no kind of key {kind}: expected {', '.join(KINDS)}.{near_match(kind, KINDS)}")
    for purpose in purposes:
        if purpose not in PURPOSES[kind]:
            raise UserError(
                f"a key of kind {kind} cannot be for the purpose {purpose}: expected {', '.join(PURPOSES[kind])}."
                f"{near_match(purpose, PURPOSES[kind])}"
            )
    if expires is not None and expires <= (begins or now()):
        raise UserError(f"a key that expires on {expires} would never be of use: give a later time.")
