"""Secrets out of a configuration before anybody else sees it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "<hidden>"

_SECRET_KEY = re.compile(
    r"(^|_)(password|passphrase|secret|secrets|api_?key|access_?key|private_?key|secret_?key|token|credentials?)$",
    re.IGNORECASE,
)


def redacted(value: Any) -> Any:
    """A copy of a nested configuration in which every value under a secret's name reads ``<hidden>``.

    Empty values stay, since they say that nothing was given.
    """
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if _SECRET_KEY.search(str(key)) and item not in (None, "") else redacted(item)
            for key, item in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [redacted(item) for item in value]
    return value


def redacted_command(command: str) -> str:
    """A command line whose ``group.passphrase=value`` overrides keep the key and lose the value."""
    words = command.split(" ")
    for position, word in enumerate(words):
        key, separator, _ = word.partition("=")
        if separator and _SECRET_KEY.search(key.rsplit(".", 1)[-1].lstrip("+-~")):
            words[position] = f"{key}={HIDDEN}"
    return " ".join(words)
