"""The run folder: one folder that explains itself.

``config.yaml``, ``environment.json``, ``data.json``, ``metrics.json`` and ``metrics.csv`` (a row an evaluation),
``steps.csv``, ``checkpoints/``, ``arrays.npz``, ``examples.npz``, ``flagged.csv``, ``audit.json``,
``figures/`` and ``report.html``.
"""

import csv
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from securegan.data.batch import DataSpec
from securegan.errors import UserError
from securegan.runs.atomic import write_atomically, write_json
from securegan.runs.stored_config import read_config
from securegan.security.provenance.files import read_regular

CONFIG, SPEC = "config.yaml", "data.json"
LIMITS = {CONFIG: 2**18, SPEC: 2**24}  # bytes that are read of them: many times what a run writes
LONGEST = 2**28  # bytes that are read of the others
AUDIT = "audit.json"

PACKAGES = (
    "securegan", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "torch-fidelity", "kornia", "hydra-core",
    "omegaconf", "wandb", "scikit-learn", "numpy", "pillow", "cryptography", "pycryptodome",
)  # fmt: skip

STALE = (  # what a run that died before its first saved point may have left
    "steps.csv", "metrics.json", "metrics.csv", "report.html", "environment.json", SPEC, "wandb_id.txt",
    "wandb_sent.json", "audit.json",
)  # fmt: skip


class RunFolder:
    """Reads and writes a run's files; only rank 0 may write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.results: dict[str, Any] = {}
        self._content: dict[str, bytes] = {}
        self._lock: FileLock | None = None

    @classmethod
    def create(cls, path: Path, config: DictConfig) -> "RunFolder":
        """A new run's folder, locked.

        Raises UserError where it cannot be written, holds a run or is in use, or ``config`` could not be read again.
        """
        content = OmegaConf.to_yaml(config, resolve=True).encode()
        read_config(path / CONFIG, content)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"the run folder {path} cannot be made ({error.strerror}): choose another.") from error
        folder = cls(path)
        folder.lock()
        if (path / "checkpoints" / "index.json").exists():
            folder.release()
            raise UserError(f"{path} holds a run: continue it with ckpt={path}, or choose another hydra.run.dir.")
        for stale in STALE:
            (path / stale).unlink(missing_ok=True)
        write_atomically(path / CONFIG, lambda temporary: temporary.write_bytes(content))
        folder._content[CONFIG] = content
        return folder

    def discard(self) -> None:
        """Remove what :meth:`create` wrote for a run that was refused before its first step, and an empty folder."""
        for name in (CONFIG, ".lock"):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # it holds something else
            self.path.rmdir()
        self.release()  # last: until then no other run may begin here

    def write_environment(self, *, continued: bool) -> None:
        """environment.json, once threads and devices are set; a continuation is listed in it, below the first start."""
        path, now = self.path / "environment.json", environment()
        if continued and path.is_file():
            try:
                first = json.loads(path.read_text())
                now = {**first, "continued": [*first.get("continued", []), now]}
            except (ValueError, AttributeError, TypeError):  # damaged: this start is what is known
                pass
        write_json(path, now)

    def write_spec(self, spec: DataSpec) -> None:
        """data.json: what a model must know of the data, so that it can be rebuilt without them."""
        self._content[SPEC] = write_json(self.path / SPEC, asdict(spec))

    def spec(self) -> DataSpec:
        """What :meth:`write_spec` wrote; raises UserError where it is missing or damaged."""
        try:
            return DataSpec.from_json(json.loads(self.content(SPEC)))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{self.path / SPEC} is damaged ({error}): restore it or start a new run.") from error

    def content(self, name: str) -> bytes:
        """config.yaml or data.json as this object first read or wrote it: what is checked is what is used.

        Raises UserError where it cannot be read, or is longer than any that a run writes.
        """
        if name not in self._content:
            path, limit = self.path / name, LIMITS[name]
            try:
                content = read_regular(path, limit)
            except OSError as error:
                early = ": the run ended before training began" if isinstance(error, FileNotFoundError) else ""
                raise UserError(f"{path} cannot be read ({error.strerror}){early}.") from error
            if len(content) > limit:
                raise UserError(f"{path} is refused: it has more than {limit:,} bytes, which no run writes.")
            self._content[name] = content
        return self._content[name]

    def digest(self, name: str) -> str:
        """SHA-256 of :meth:`content`."""
        return hashlib.sha256(self.content(name)).hexdigest()

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """An existing run's folder, not locked yet; raises UserError where ``path`` holds none or a damaged one."""
        folder = cls(path)
        if not (path / CONFIG).is_file():
            raise UserError(f"{path} is not a run folder: expected a folder that holds {CONFIG}.")
        metrics = path / "metrics.json"
        if metrics.is_file():
            try:
                folder.results = dict(read_json(metrics))
                folder.rows = [dict(row) for row in folder.results.pop("rows")]
                _ = [(row["epoch"], row["metrics"]) for row in folder.rows]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{metrics} is damaged ({error}): restore it or start a new run.") from error
        return folder

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def has_saved_point(self) -> bool:
        """Whether a checkpoint was completed here."""
        return (self.checkpoints / "index.json").is_file()

    def has_finished(self) -> bool:
        """Whether every epoch was trained, the test split measured and the report written."""
        epochs = OmegaConf.select(self.config(), "trainer.max_epochs")
        trained = bool(self.rows) and isinstance(epochs, int) and self.rows[-1]["epoch"] >= epochs
        return trained and bool(self.results.get("test")) and (self.path / "report.html").is_file()

    def config(self) -> DictConfig:
        """The composed config that the run was started with; nothing in it is read from anywhere else."""
        return read_config(self.path / CONFIG, self.content(CONFIG))

    def lock(self) -> None:
        """Held while a run writes here; raises UserError where another run holds it or nothing can be written."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not (self.path / ".lock").exists():  # a folder that takes no files, such as /proc
                raise UserError(f"the run folder {self.path} cannot be written to: choose another.") from None
            raise UserError(f"{self.path} is in use by another process: wait for it to end.") from None
        except OSError as error:
            reason = error.strerror
            raise UserError(f"the run folder {self.path} cannot be written to ({reason}): choose another.") from error
        self._lock = lock

    def release(self) -> None:
        """Give the lock back, if this object holds it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def add_row(self, row: dict[str, Any]) -> None:
        """Append an evaluation's row to metrics.json and metrics.csv."""
        self.rows = [kept for kept in self.rows if kept["epoch"] != row["epoch"]] + [row]
        self.write_metrics()

    def prune(self, epochs: int) -> None:
        """Drop the rows and results after the first ``epochs`` epochs: they will be made again."""
        self.rows = [row for row in self.rows if row["epoch"] <= epochs]
        self.results = {}
        self.write_metrics()
        (self.path / AUDIT).unlink(missing_ok=True)  # it speaks of another checkpoint

    def write_metrics(self) -> None:
        """metrics.json and metrics.csv from what is held."""
        write_json(self.path / "metrics.json", {"rows": self.rows, **self.results})
        columns = list(dict.fromkeys(key for row in self.rows for key in row["metrics"]))

        def write(temporary: Path) -> None:
            with temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, ["epoch", "images_seen", "split", *columns])
                writer.writeheader()
                for row in self.rows:
                    writer.writerow({**{k: row[k] for k in ("epoch", "images_seen", "split")}, **row["metrics"]})

        write_atomically(self.path / "metrics.csv", write)

    def write_arrays(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """``name`` (.npz) with plain arrays."""

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

        write_atomically(self.path / name, write)

    def write_flagged(self, detector: str, scores: Sequence[float], threshold: float, classes: Sequence[str]) -> None:
        """flagged.csv: the generated images, by sample number, that the detector flags at the end."""

        def write(temporary: Path) -> None:
            with temporary.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["detector", "sample", "class", "score", "threshold"])
                for number, score in enumerate(scores):
                    if score > threshold:
                        writer.writerow([detector, number, classes[number], f"{score:.6g}", f"{threshold:.6g}"])

        write_atomically(self.path / "flagged.csv", write)


def read_json(path: Path) -> Any:
    """What a run wrote there. Raises OSError, and ValueError for what is no JSON, or more or deeper than any run's."""
    content = read_regular(path, LONGEST)
    if len(content) > LONGEST:
        raise ValueError(f"it has more than {LONGEST:,} bytes")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def environment() -> dict[str, Any]:
    """Versions, command, commit and machine; nothing that names a person or a host."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "command": shlex.join([*_program(), *_arguments()]),
        "versions": versions,
        "commit": git_commit(),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": len(os.sched_getaffinity(0)),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def _program() -> list[str]:
    """What the arguments were given to: the ``securegan`` command, or the main job."""
    called = Path(sys.argv[0]).name
    return ["securegan"] if called in ("securegan", "__main__.py", "cli.py") else ["python", "-m", "securegan.run"]


def _arguments() -> list[str]:
    """The command line's arguments; of a sweep, those of this job alone."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return list(HydraConfig.get().overrides.task)
    return sys.argv[1:]


def git_commit(digits: int = 12) -> str | None:
    """The commit of the source checkout, with ``+`` where it has changes; None outside a checkout."""
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return None
    try:
        run = lambda *args: subprocess.run(  # noqa: E731
            ["git", "-C", str(source), *args], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        return run("rev-parse", f"--short={digits}", "HEAD") + ("+" if run("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
