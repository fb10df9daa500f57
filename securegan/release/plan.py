"""What a release is of and how it is treated: written down at its start, and the same whenever it goes on."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from securegan.errors import UserError
from securegan.runs.atomic import require_empty, write_json

PLAN = "release.json"
FOLDERS = {"release": "images", "review": "review"}  # by the kind of an image's entry in the log
Flagged = Literal["review", "reject"]


def plain_text(name: str) -> str:
    """A name from outside as sidecars and logs take it: printable, of 200 characters at most, and not empty."""
    return "".join(letter for letter in name if letter.isprintable())[:200] or "unnamed"


@dataclass(frozen=True)
class Plan:
    """Digests are SHA-256; how many images there are is no part of it, so that more can follow."""

    model: str  # the weights' file
    config: str  # the run's config.yaml
    dataset: str  # the run's data.json
    run: str
    seed: int
    label: int | None
    averaged: bool
    on_flagged: Flagged
    detectors: list[dict[str, object]]
    recipients: list[str]  # kids
    log: str  # its origin; empty where it is the release's own
    id: str = ""  # drawn when the release begins
    format: int = 1


@contextmanager
def opened(folder: Path, plan: Plan) -> Iterator[Plan]:
    """The plan of the release in ``folder``, which is begun where it is empty; alone with it among processes.

    Raises:
        UserError: another process releases there, or the folder holds something else or a release of another plan.
    """
    lock = FileLock(folder / ".lock")
    if not (folder / PLAN).exists() and not (folder / ".lock").exists():
        require_empty(folder, "--out")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder} is in use by another release: wait for it to end.") from None
    except OSError as error:
        raise UserError(f"--out={folder} cannot be used: {error.strerror}.") from error
    try:
        yield _begun(folder, plan)
    finally:
        lock.release()


def _begun(folder: Path, plan: Plan) -> Plan:
    path = folder / PLAN
    if path.exists():
        before = _read(path)
        for name, wanted in asdict(replace(plan, id=before.id)).items():
            if (kept := getattr(before, name)) != wanted:
                raise UserError(
                    f"{folder} holds a release with {name} {kept}, not {wanted}: give the settings it was begun with, "
                    "or another --out."
                )
        return before
    if strange := [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]:
        raise UserError(f"--out={folder} is not empty ({strange[0]}): choose another folder.")
    begun = replace(plan, id=secrets.token_hex(16))
    write_json(path, asdict(begun))
    return begun


def _read(path: Path) -> Plan:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if set(found) != {field.name for field in fields(Plan)} or found["format"] != 1 or not found["id"]:
            raise ValueError("its fields are not those of a release")
        return Plan(**found)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): choose another --out.") from error
