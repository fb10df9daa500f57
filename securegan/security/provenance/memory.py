"""What this machine remembers of trust: roots pinned, the newest trust store and log checkpoint seen of each.

Old files stay well signed for ever: only a memory tells that there was a newer one. It is a folder of the verifier's
own, ``$SECUREGAN_TRUST`` or ``~/.config/securegan/trust``; who can write there can make it forget.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from securegan.errors import UserError
from securegan.security.durable import written
from securegan.security.errors import PolicyError
from securegan.security.provenance import strict_json
from securegan.security.provenance.signing import PublicKey

LIMIT = 16 * 2**20
EMPTY: dict[str, dict[str, Any]] = {"roots": {}, "stores": {}, "checkpoints": {}, "places": {}}


class Memory:
    """A folder, which is made when something is first kept in it."""

    def __init__(self, folder: Path | None = None) -> None:
        default = Path.home() / ".config" / "securegan" / "trust"
        self.folder = folder or Path(os.environ.get("SECUREGAN_TRUST") or default)
        self.path = self.folder / "memory.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with it, among the processes of this machine."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            lock.acquire()
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be written ({error.strerror}): set SECUREGAN_TRUST to a folder where this "
                "machine can remember what it trusts."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def root(self, kid: str) -> PublicKey | None:
        """The pinned root of that kid."""
        found = self._read()["roots"].get(kid)
        return None if found is None else PublicKey(bytes.fromhex(found))

    def pin(self, root: PublicKey) -> None:
        """Trust what ``root`` signs as trust stores."""
        with self.locked():
            kept = self._read()
            kept["roots"][root.kid] = root.raw.hex()
            self._write(kept)

    def store(self, root: str, name: str, version: int, digest: str, path: Path, *, meant: bool = False) -> None:
        """Keep that a trust store was seen, and where: a place has one store, unless another is ``meant`` to be there.

        Raises PolicyError where a newer one, or another of its version, was seen, or another store in that place.
        """
        found, place = f"{root} {name}", str(path.resolve())
        with self.locked():
            kept = self._read()
            before = kept["places"].get(place, found)
            if before != found and not meant:
                raise PolicyError(
                    f"{path} is refused: the store {name} under the root {root} is where {before.partition(' ')[2]} "
                    f"under {before.partition(' ')[0]} was seen before; if it is meant to be, say --store-name {name}."
                )
            self._note(kept, "stores", found, version, digest, path, "version")
            if kept["places"].get(place) != found:
                kept["places"][place] = found
                self._write(kept)

    def checkpoint(self, origin: str, size: int, root: bytes, what: object) -> None:
        """Keep that a log's checkpoint was seen. Raises PolicyError where one of more entries, or another, was."""
        with self.locked():
            self._note(self._read(), "checkpoints", origin, size, root.hex(), what, "size")

    def newest_checkpoint(self, origin: str) -> tuple[int, bytes] | None:
        """Size and root of the newest checkpoint seen of a log."""
        found = self._read()["checkpoints"].get(origin)
        return None if found is None else (found[0], bytes.fromhex(found[1]))

    def _note(
        self,
        kept: dict[str, dict[str, Any]],
        part: str,
        name: str,
        number: int,
        digest: str,
        what: object,
        counted: str,
    ) -> None:
        known, before = kept[part].get(name, (-1, ""))
        if number < known:
            raise PolicyError(f"{what} is refused: {counted} {number}, where {known} was seen here before.")
        if number == known and digest != before:
            raise PolicyError(f"{what} is refused: another one of {counted} {number} was seen here before.")
        if number > known:
            kept[part][name] = [number, digest]
            self._write(kept)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            with self.path.open("rb") as file:
                kept = strict_json.parse(file.read(LIMIT + 1), limit=LIMIT)
            if set(kept) == set(EMPTY) - {"places"}:  # of an earlier version
                kept["places"] = {}
            if set(kept) != set(EMPTY) or not all(isinstance(part, dict) for part in kept.values()):
                raise ValueError("other parts than it should have")
        except FileNotFoundError:
            return {part: {} for part in EMPTY}
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{self.path} cannot be read ({error}): restore it, or remove it and pin the roots again."
            ) from error
        return kept

    def _write(self, kept: dict[str, dict[str, Any]]) -> None:
        with written(self.path, replace=True) as file:
            file.write(json.dumps(kept, indent=1, sort_keys=True).encode() + b"\n")
