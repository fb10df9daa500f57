"""What an opener expects of an envelope, and the memory by which an older version of an object is known as a replay."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from securegan.errors import UserError
from securegan.security.durable import written
from securegan.security.envelope.header import KEY_WRAP, Facts, Header
from securegan.security.errors import PolicyError
from securegan.security.keys.key import Key


@dataclass(frozen=True)
class Expected:
    """None and 0 expect nothing."""

    purpose: str | None = None
    object_id: str | None = None
    at_least: int = 0

    def check(self, facts: Facts) -> None:
        """Raises PolicyError where ``facts`` are others."""
        if self.purpose is not None and facts.purpose != self.purpose:
            raise PolicyError(f"it was sealed for the purpose {facts.purpose}, not {self.purpose}.")
        if self.object_id is not None and facts.object_id != self.object_id:
            raise PolicyError(f"it holds the object {facts.object_id}, not {self.object_id}.")
        if facts.version < self.at_least:
            raise PolicyError(
                f"it is version {facts.version} of {facts.object_id}, and version {self.at_least} has been seen: "
                "an older version is played back."
            )


class Versions:
    """The newest version seen of each object, in a JSON file; objects without versions are not remembered.

    Only envelopes that are under symmetric ``keys`` alone count, none of them revoked: anybody can seal for a public
    key, and would have every genuine version refused by one of a great number.
    """

    def __init__(self, path: Path, keys: Iterable[Key]) -> None:
        self._path = path
        self._kids = {key.kid for key in keys if key.kind == "aes256" and key.status != "revoked"}

    def check(self, facts: Facts) -> None:
        """Raises PolicyError for a version older than the newest seen."""
        Expected(at_least=self._read().get(facts.object_id, 0)).check(facts)

    def remember(self, header: Header) -> None:
        """Note the version of an object that was opened, where the envelope counts."""
        facts = header.facts
        ours = all(stanza.type == KEY_WRAP and stanza.kid in self._kids for stanza in header.stanzas)
        if not facts.version or not ours:
            return
        with FileLock(self._path.with_suffix(".lock"), mode=0o600):
            seen = self._read()
            if seen.get(facts.object_id, 0) < facts.version:
                text = json.dumps({**seen, facts.object_id: facts.version}, indent=1, sort_keys=True) + "\n"
                with written(self._path, replace=True) as file:
                    file.write(text.encode())

    def _read(self) -> dict[str, int]:
        try:
            found = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserError(f"{self._path} cannot be read: restore it from a backup, or remove it.") from error
        if not isinstance(found, dict) or not all(type(version) is int for version in found.values()):
            raise UserError(f"{self._path} does not hold versions: restore it from a backup, or remove it.")
        return found
