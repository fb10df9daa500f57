"""What an opener expects of an envelope, and the memory by which an older version of an object is known as a replay."""

import json
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from securegan.errors import UserError
from securegan.security.durable import written
from securegan.security.envelope.header import Facts
from securegan.security.errors import PolicyError


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
    """The newest version seen of each object, in a JSON file; objects without versions are not remembered."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, facts: Facts) -> None:
        """Raises PolicyError for a version older than the newest seen."""
        Expected(at_least=self._read().get(facts.object_id, 0)).check(facts)

    def remember(self, facts: Facts) -> None:
        """Note the version of an object that was opened."""
        if not facts.version:
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
