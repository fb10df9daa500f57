"""A run folder's results as one object: whatever the run measured, and nothing it did not."""

import csv
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, ValidationError

from securegan.errors import UserError
from securegan.reports.redaction import redacted
from securegan.runs.folder import AUDIT, CONFIG, RunFolder

X_COLUMN = "images_seen"  # of steps.csv
DIRECTIONS = ("_real_to_fake", "_fake_to_real")
ATTACK_SUCCESS = "robustness/attack_success_"
AWARE = "adaptive_"  # begins the examples of an adversary who attacked surface and detector together
_DISTRIBUTIONS = ("fidelity_", "distance_", "auddc_")


class Row(BaseModel):
    """Figures at one moment of training."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    images_seen: int
    split: str = "validate"
    metrics: dict[str, float | None]
    n: dict[str, int] = {}


class Figures(BaseModel):
    """Figures of one checkpoint on one split, with the number of inputs and the 95 % interval of each where known."""

    model_config = ConfigDict(frozen=True)

    checkpoint: str = "last"
    epoch: int | None = None
    split: str = "test"
    metrics: dict[str, float | None] = {}
    n: dict[str, int | None] = {}
    interval: dict[str, tuple[float, float] | None] = {}
    notes: list[str] = []  # sentences on what is undefined and why

    def value(self, key: str) -> float | None:
        """The figure, or None where it is missing or not a number."""
        value = self.metrics.get(key)
        return value if value is not None and math.isfinite(value) else None

    def bounds(self, key: str) -> tuple[float, float] | None:
        """The 95 % interval, or None where it is missing or not made of numbers."""
        bounds = self.interval.get(key)
        return bounds if bounds is not None and all(map(math.isfinite, bounds)) else None


class Check(BaseModel):
    """One gradient-masking check; ``passed`` is None where there was nothing to judge."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool | None
    detail: str = ""
    surface: str = ""


def failed_first(checks: Sequence[Check]) -> list[Check]:
    """The checks in the order of a reader's interest: failed, not judged, passed."""
    return sorted(checks, key=lambda check: {False: 0, None: 1, True: 2}[check.passed])


class Audit(BaseModel):
    """What ``securegan audit`` left in a run folder."""

    model_config = ConfigDict(frozen=True)

    checkpoint: str
    epoch: int
    split: str
    images: int
    full: bool
    checks: list[Check]

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.passed is False]

    @classmethod
    def load(cls, folder: Path) -> "Audit | None":
        """The audit of the run in ``folder``, None where there was none; raises UserError where it is damaged."""
        path = folder / AUDIT
        return _read(path, lambda file: cls.model_validate_json(file.read_text(encoding="utf-8")))


class Release(BaseModel):
    """What the run released, and how it verified."""

    model_config = ConfigDict(frozen=True)

    images: int
    released: int
    review: int
    rejected: int
    verdicts: dict[str, int]
    sealed_for: list[str]
    detectors: list[dict[str, str]]
    signer: str
    signers: list[str] = []  # all that the log names, in the order in which they came
    log: dict[str, str | int]

    @property
    def sound(self) -> bool:
        """Whether every released image is as it was signed, as far as it can be opened here."""
        return self.verdicts.get("byte-exact", 0) + self.verdicts.get("sealed for others", 0) == self.released

    @classmethod
    def load(cls, folder: Path) -> "Release | None":
        """The release of the run in ``folder``, None where there was none; raises UserError where it is damaged."""
        path = folder / "release" / "summary.json"
        return _read(path, lambda file: cls.model_validate_json(file.read_text(encoding="utf-8")))


class _Metrics(BaseModel):
    """The layout of metrics.json."""

    rows: list[Row] = []
    test: Figures | None = None
    protocol: dict[str, Any] = {}
    checks: list[Check] = []
    seconds: dict[str, float | None] = {}
    notes: list[str] = []


@dataclass(frozen=True)
class RunResults:
    """Everything a run folder holds; parts that were not measured are empty."""

    folder: Path
    rows: list[Row] = field(default_factory=list)
    test: Figures | None = None
    protocol: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    audit: Audit | None = None
    release: Release | None = None
    seconds: dict[str, float | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    examples: dict[str, NDArray[Any]] = field(default_factory=dict)
    steps: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)  # without secrets
    environment: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> "RunResults":
        """Read ``metrics.json`` and whatever else of arrays, examples, steps, config and environment is there.

        Raises:
            UserError: the folder holds no ``metrics.json``, or one of the files is damaged.
        """
        folder = Path(folder)
        if not (folder / "metrics.json").is_file():
            raise UserError(f"{folder} holds no metrics.json, so it is not the folder of a run with results.")
        raw = _read(folder / "metrics.json", lambda path: json.loads(path.read_text(encoding="utf-8")))
        try:
            metrics = _Metrics.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the top level"
            raise UserError(f"{folder / 'metrics.json'} is damaged at {place}: {first['msg']}.") from None
        config = _read(folder / CONFIG, lambda path: OmegaConf.to_container(RunFolder(path.parent).config()))
        environment = _read(folder / "environment.json", lambda path: json.loads(path.read_text(encoding="utf-8")))
        return cls(
            folder=folder,
            rows=sorted(metrics.rows, key=lambda row: row.images_seen),
            test=metrics.test,
            protocol=metrics.protocol,
            checks=metrics.checks,
            audit=Audit.load(folder),
            release=Release.load(folder),
            seconds=metrics.seconds,
            notes=list(dict.fromkeys([*metrics.notes, *(metrics.test.notes if metrics.test else [])])),
            arrays=_flat(_read(folder / "arrays.npz", _load_arrays) or {}, folder / "arrays.npz"),
            examples=_read(folder / "examples.npz", _load_arrays) or {},
            steps=_read(folder / "steps.csv", _load_steps) or {},
            config=redacted(config or {}),
            environment=redacted(_mapping(environment, folder / "environment.json")),
        )

    @property
    def headline(self) -> Figures:
        """The figures a reader should look at: those of the test split, else the last row of the run."""
        if self.test is not None:
            return self.test
        last = next((row for row in reversed(self.rows) if row.split != "train"), None)
        if last is None:
            return Figures(split="none")
        return Figures(epoch=last.epoch, split=last.split, metrics=last.metrics, n=dict(last.n))

    @property
    def surfaces(self) -> list[str]:
        """Surfaces that were attacked or are described, in the order in which the run names them."""
        found = list(map(str, self.part("surfaces")))
        for metrics in [self.headline.metrics, *(row.metrics for row in self.rows)]:
            for key in metrics:
                name = key.removeprefix(ATTACK_SUCCESS)
                # A surface's directions (authenticity_real_to_fake) are no surfaces of their own.
                if name != key and name not in found and not name.endswith(DIRECTIONS):
                    found.append(name)
        return found

    @property
    def violations(self) -> list[Check]:
        """The gradient-masking checks that failed."""
        return [check for check in self.checks if check.passed is False]

    def part(self, name: str) -> dict[str, Any]:
        """A section of the protocol, empty where the run has none."""
        section = self.protocol.get(name)
        return section if isinstance(section, dict) else {}

    def series(self, key: str) -> list[tuple[Row, float]]:
        """The rows at which ``key`` was measured and finite, by images seen."""
        return [(row, v) for row in self.rows if (v := row.metrics.get(key)) is not None and math.isfinite(v)]

    def distribution(self, key: str) -> NDArray[np.float64] | None:
        """The finite values of a 1-d array, or None where there are none."""
        values = self.arrays.get(key)
        if values is None:
            return None
        finite = values[np.isfinite(values)].astype(np.float64)
        return finite if finite.size else None

    @property
    def seed(self) -> object:
        """The run's seed; None where it is not recorded."""
        return self.protocol.get("seed", self.config.get("seed"))

    def uses(self, group: str) -> bool | None:
        """Whether the run had an attack, a defence or a detector; None where the configuration does not say."""
        if group not in self.config:
            return None
        chosen = self.config[group]
        if isinstance(chosen, dict):
            return any(chosen.values()) and str(chosen.get("name", "")).lower() != "none"
        return chosen not in (None, "", "none", False, [])


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    """What ``reader`` makes of a file, None where there is no such file."""
    if not path.is_file():
        return None
    try:
        return reader(path)
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        csv.Error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is damaged and cannot be read: {reason[:200]}") from error


def _load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an npz; pickled objects are refused because reading them can run code."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _load_steps(path: Path) -> dict[str, NDArray[np.float64]]:
    """Columns of steps.csv as floats, NaN where a row lacks the column; a half-written last line is left out."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = list(csv.reader(file)) or [[]]
    whole = [line for line in lines if len(line) == len(header)]
    cells = [[float(cell) if cell else math.nan for cell in line] for line in whole]
    table = np.array(cells, dtype=np.float64).reshape(-1, len(header))
    return {name: table[:, column] for column, name in enumerate(header)}


def _flat(arrays: dict[str, NDArray[Any]], path: Path) -> dict[str, NDArray[Any]]:
    """The arrays, once every distribution among them is known to be one-dimensional and made of numbers."""
    for name, values in arrays.items():
        wanted = 1 if name.startswith(_DISTRIBUTIONS) else 0
        distribution = name == "threshold" or wanted
        if distribution and (values.ndim != wanted or not np.issubdtype(values.dtype, np.number)):
            raise UserError(f"{path} is damaged: {name} should be {wanted}-dimensional numbers.")
    return arrays


def _mapping(value: object, path: Path) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: a mapping was expected, a {type(value).__name__} is there.")
    return value
