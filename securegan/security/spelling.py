"""Values that have one spelling each: base64, times and the keys of JSON objects; any other is refused.

What is signed or compared as text must neither change without saying something else nor say two things at once.
"""

from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import Any

TIME = "%Y-%m-%dT%H:%M:%SZ"


def as_text(moment: datetime) -> str:
    """A time in UTC, to the second: ``2026-11-21T20:13:04Z``."""
    return moment.astimezone(UTC).strftime(TIME)


def moment(text: str) -> datetime:
    """The time that ``text`` says. Raises ValueError where :func:`as_text` would have written it otherwise."""
    found = datetime.fromisoformat(text).replace(tzinfo=UTC)
    if found.strftime(TIME) != text:
        raise ValueError(f"the time {text} is not written as 2026-11-21T20:13:04Z")
    return found


def from_base64(text: str | bytes) -> bytes:
    """Raises ValueError for what ``b64encode`` does not write, bits that base64 leaves unused included."""
    plain = b64decode(text, validate=True)
    if b64encode(plain) != (text.encode() if isinstance(text, str) else text):
        raise ValueError("base64 with bits that it does not use")
    return plain


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object (``object_pairs_hook``). Raises ValueError where a key stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
