"""What a release is of and how it is treated: written down at its start, and the same whenever it goes on."""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from filelock import FileLock, Timeout
from pydantic import Field, StringConstraints, ValidationError

from securegan.errors import UserError
from securegan.runs.atomic import require_empty, write_json
from securegan.security.provenance import strict_json
from securegan.security.provenance.files import read_given
from securegan.security.provenance.statement import Count, Facts, Seed, Sha256, Text

PLAN = "release.json"
LIMIT = 2**20  # bytes of it
OWN_LOG = "has a log of its own: leave --log out"
FOLDERS = {"release": "images", "review": "review"}  # by the kind of an image's entry in the log
Flagged = Literal["review", "reject"]


def plain_text(name: str) -> str:
    """A name from outside as sidecars and logs take it: printable, of 200 characters at most, and not empty."""
    return "".join(letter for letter in name if letter.isprintable())[:200] or "unnamed"


Id: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class Plan(Facts):
    """Digests are SHA-256; how many images there are is no part of it, so that more can follow."""

    model: Sha256  # the weights' file
    config: Sha256  # the run's config.yaml
    dataset: Sha256  # the run's data.json
    run: Text
    seed: Seed
    label: Count | None
    averaged: bool
    on_flagged: Flagged
    detectors: Annotated[list[dict[Text, Text]], Field(max_length=100)]
    recipients: Annotated[list[Id], Field(max_length=32)]  # kids, as it was begun; an entry has them all
    log: Text | Literal[""]  # its origin; empty where it is the release's own
    id: Id = Field(default_factory=lambda: secrets.token_hex(16))  # drawn when the release begins
    format: Literal[1] = 1

    @property
    def origin(self) -> str:
        """Of the log, whoever's it is."""
        return self.log or f"securegan/release/{self.id}"

    @property
    def digest(self) -> str:
        """SHA-256 of all but the id."""
        return hashlib.sha256(strict_json.write(self.model_dump(exclude={"id"}))).hexdigest()

    @property
    def weights(self) -> Literal["averaged", "raw"]:
        """Which of the generator's."""
        return "averaged" if self.averaged else "raw"


@contextmanager
def opened(
    folder: Path,
    plan: Plan,
    begin: Callable[[], object] = lambda: None,
    same: Callable[[list[str]], bool] = lambda recipients: False,
) -> Iterator[Plan]:
    """The plan of the release in ``folder``, which is begun where it is empty; alone with it among processes.

    Args: begin: called before a new release's plan is written; same: whether the plan's recipients are those kids,
    though under other keys.

    Raises:
        UserError: another process releases there, or the folder holds something else or a release of another plan.
    """
    if not (folder / PLAN).exists() and not (folder / ".lock").exists():
        require_empty(folder, "--out")
    with _alone(folder):
        yield _begun(folder, plan, begin, same)


@contextmanager
def found(folder: Path) -> Iterator[Plan]:
    """The same of a release that was begun, whatever it is of. Raises UserError where there is none."""
    if not (folder / PLAN).is_file():
        raise UserError(f"{folder} holds no release: it has no {PLAN}.")
    with _alone(folder):
        yield read_plan(folder / PLAN)


def plan_of(facts: Mapping[str, object]) -> Plan:
    """Raises UserError where a release cannot be of that."""
    try:
        return Plan.model_validate(facts)
    except ValidationError as error:
        raise UserError(f"a release cannot be of that: {_said(error)}.") from error


def read_plan(path: Path) -> Plan:
    """What a release wrote down. Raises UserError where it is anything else."""
    try:
        return Plan.model_validate(strict_json.parse(read_given(path, LIMIT, "the release's plan"), limit=LIMIT))
    except ValidationError as error:
        reason = _said(error)
    except ValueError as error:
        reason = str(error)
    raise UserError(f"{path} is damaged ({reason}): restore it, or choose another --out.")


def _said(error: ValidationError) -> str:
    said = error.errors(include_url=False)[0]
    return f"{plain_text('.'.join(str(part) for part in said['loc']))}: {said['msg']}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder} is in use by another release: wait for it to end.") from None
    except OSError as error:
        raise UserError(f"--out={folder} cannot be used: {error.strerror}.") from error
    try:
        yield
    finally:
        lock.release()


def _begun(folder: Path, plan: Plan, begin: Callable[[], object], same: Callable[[list[str]], bool]) -> Plan:
    path = folder / PLAN
    if path.exists():
        before = read_plan(path)
        for name in [field for field in Plan.model_fields if field != "id"]:
            kept, wanted = getattr(before, name), getattr(plan, name)
            if kept != wanted and not (name == "recipients" and same(kept)):
                raise UserError(
                    f"{folder} holds a release with {name} {kept}, not {wanted}: give the settings it was begun with, "
                    "or another --out."
                )
        return before
    if strange := [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]:
        raise UserError(f"--out={folder} is not empty ({strange[0]}): choose another folder.")
    begin()
    write_json(path, plan.model_dump())
    return plan
