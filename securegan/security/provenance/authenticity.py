"""Whether a signed statement counts: its signature, its signer's standing, its kind."""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

from securegan.security.errors import AuthenticationError, PolicyError
from securegan.security.provenance import dsse, statement
from securegan.security.provenance.statement import DirectoryOrigin, ImageOrigin, Statement
from securegan.security.provenance.trust import Purpose, Trust, TrustedKey
from securegan.security.provenance.verdicts import Verdict

# When a log that is trusted first had an entry about a sidecar or manifest of this SHA-256; None where it has none. It
# is asked about the very bytes that bear the signature: what they say of themselves is the thief's choice.
Logged: TypeAlias = Callable[[str], datetime | None]

REASONS = {
    Verdict.REVOKED: "the key {name} was revoked as {why}",
    Verdict.EXPIRED: "the key {name} was good until {until}; it was signed at {time}",
    Verdict.NOT_YET_VALID: "signed at {time}, which has not come, or before the key {name} was good, from {since}",
    Verdict.WRONG_PURPOSE: "the key {name} is for {purposes}, not for {purpose}",
}


class Rejected(PolicyError):
    """A statement that does not count, by its verdict."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict


def authenticate(
    data: bytes,
    trust: Trust,
    kind: type[ImageOrigin] | type[DirectoryOrigin],
    purpose: Purpose,
    *,
    now: datetime | None = None,
    logged: Logged | None = None,
) -> tuple[TrustedKey, Statement]:
    """Signer and statement of an envelope. Raises Rejected."""
    what = "the signature"
    try:
        envelope = dsse.read(data, statement.PAYLOAD, what)
        key = trust.keys.get(envelope.keyid)
        if key is None:
            raise Rejected(Verdict.UNKNOWN_SIGNER, f"the key {envelope.keyid} is not in the trust store")
        found = statement.read(envelope.payload(key.key, what), kind, what)
    except Rejected:
        raise
    except (AuthenticationError, PolicyError) as error:
        raise Rejected(Verdict.REFUSED, str(error)) from error
    when = logged(hashlib.sha256(data).hexdigest()) if key.revoked is not None and logged is not None else None
    verdict = key.standing(purpose, found.time, now, when)
    if verdict is not None:
        raise Rejected(verdict, _reason(verdict, key, purpose, found))
    return key, found


def _reason(verdict: Verdict, key: TrustedKey, purpose: Purpose, found: Statement) -> str:
    why = "" if key.revoked is None else f"{key.revoked.reason} at {key.revoked.at}"
    return REASONS[verdict].format(
        name=key.name, since=key.since, until=key.until, time=found.origin.time, why=why, purpose=purpose,
        purposes=" and ".join(key.purposes),
    )  # fmt: skip
