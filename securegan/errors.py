"""Errors a user can cause and mend. The command line prints their one sentence and exits with 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user gave cannot be used; the message is one clear sentence without a traceback."""


class ConfigError(UserError):
    """A configuration value that cannot be used: names the key, the value and what is allowed."""


def near_match(word: str, allowed: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` (with a leading space) for the closest of ``allowed``, or the empty string.

    Numbers and paths have none: one that looks like another is no likelier to be meant.
    """
    if str(word).isdecimal() or "/" in str(word):
        return ""
    found = get_close_matches(str(word), [str(option) for option in allowed], n=1, cutoff=0.6)
    return f" Did you mean '{found[0]}'?" if found else ""
