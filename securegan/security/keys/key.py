"""What is known of a key, all of it public, and what the key may be used for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from securegan.errors import UserError
from securegan.security.errors import PolicyError
from securegan.security.keys.secret import Kind, kid_of_public, pem_of
from securegan.security.spelling import as_text, moment

Status = Literal["active", "decrypt-only", "revoked"]
Use = Literal["seal", "open", "sign"]

KINDS: tuple[Kind, ...] = get_args(Kind)
PURPOSES: Mapping[Kind, tuple[str, ...]] = {
    "aes256": ("image", "checkpoint", "dataset", "run", "transport"),
    "x25519": ("image", "checkpoint", "dataset", "run", "transport"),
    "ed25519": ("image", "checkpoint", "dataset", "run", "log", "trust"),
}
SKEW = timedelta(minutes=5)  # by which the clocks of two machines may differ


def now() -> datetime:
    """The time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Key:
    """``public`` has 32 bytes, or none for a symmetric key; ``sealed`` counts envelopes."""

    kid: str
    name: str
    kind: Kind
    purposes: tuple[str, ...]
    created: datetime
    begins: datetime
    expires: datetime | None = None
    status: Status = "active"
    reason: str | None = None
    revoked_at: datetime | None = None
    public: bytes | None = None
    sealed: int = 0

    def __str__(self) -> str:
        return f"{self.name} ({self.kid[:8]})"

    @property
    def pem(self) -> str:
        """Raises UserError for a key that has no public part."""
        if self.public is None:
            raise UserError(f"key {self} is symmetric: it has no public part to give out.")
        return pem_of(self.kind, self.public)

    def state(self, at: datetime | None = None) -> str:
        """``active``, ``not yet valid``, ``expired``, ``decrypt-only`` or ``revoked``."""
        at = at or now()
        if self.status != "active":
            return self.status
        if self.begins > at + SKEW:
            return "not yet valid"
        return "expired" if self.expires is not None and self.expires <= at else "active"

    def require(self, use: Use, purpose: str, at: datetime | None = None) -> None:
        """Raises PolicyError where this key must not be used so: to open, it may be old but neither revoked nor new."""
        state = self.state(at)
        if (use == "sign") != (self.kind == "ed25519"):
            raise PolicyError(f"key {self} is of kind {self.kind}, which cannot {use} anything.")
        if purpose not in self.purposes:
            allowed = ", ".join(self.purposes)
            raise PolicyError(f"key {self} is not for the purpose {purpose}: it is for {allowed}.")
        if state == "revoked":
            assert self.revoked_at is not None
            raise PolicyError(f"key {self} was revoked on {as_text(self.revoked_at)} ({self.reason}).")
        if state == "not yet valid":
            raise PolicyError(f"key {self} is valid from {as_text(self.begins)} on.")
        if use == "open":
            return
        if state == "expired":
            assert self.expires is not None
            raise PolicyError(f"key {self} expired on {as_text(self.expires)}: rotate it.")
        if state == "decrypt-only":
            left = "signs no more" if use == "sign" else "only opens what it sealed once"
            raise PolicyError(f"key {self} {left}: it was replaced by a newer one of its name.")

    def to_json(self) -> dict[str, Any]:
        """Plain values; :meth:`from_json` reads them."""
        times = {name: value and as_text(value) for name, value in self._times().items()}
        return {
            "kid": self.kid,
            "name": self.name,
            "kind": self.kind,
            "purposes": list(self.purposes),
            "status": self.status,
            "reason": self.reason,
            **times,
            "public": self.public and self.public.hex(),
            "sealed": self.sealed,
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Key":
        """Raises KeyError, TypeError or ValueError for what :meth:`to_json` did not write."""
        written = {name: found[name] for name in ("created", "begins", "expires", "revoked_at")}
        times = {name: None if text is None else moment(text) for name, text in written.items()}
        created, begins = times["created"], times["begins"]
        if created is None or begins is None or set(found) != FIELDS:
            raise ValueError("fields")
        public = found["public"] and bytes.fromhex(found["public"])
        key = cls(
            kid=found["kid"],
            name=found["name"],
            kind=found["kind"],
            purposes=tuple(found["purposes"]),
            created=created,
            begins=begins,
            expires=times["expires"],
            status=found["status"],
            reason=found["reason"],
            revoked_at=times["revoked_at"],
            public=public,
            sealed=int(found["sealed"]),
        )
        if (
            key.kind not in KINDS
            or key.status not in get_args(Status)
            or not set(key.purposes) <= set(PURPOSES[key.kind])
        ):
            raise ValueError("kind, status or purposes")
        if (key.public is None) != (key.kind == "aes256") or (key.status == "revoked") != (key.revoked_at is not None):
            raise ValueError("public part or revocation")
        if key.public is not None and key.kid != kid_of_public(key.kind, key.public):
            raise ValueError("kid")
        return key

    def _times(self) -> dict[str, datetime | None]:
        return {
            "created": self.created,
            "begins": self.begins,
            "expires": self.expires,
            "revoked_at": self.revoked_at,
        }


FIELDS = {*Key.__dataclass_fields__}
