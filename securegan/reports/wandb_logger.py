"""Weights & Biases as a guest: it may record a run, never stop it, slow it down or ask it anything."""

import logging
import os
import re
import secrets
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from securegan.reports.redaction import redacted
from securegan.reports.results import X_COLUMN
from securegan.reports.wandb_sent import Kind, Sent
from securegan.reports.wandb_server import has_key, reachable

Mode = Literal["auto", "online", "offline", "disabled"]

INIT_TIMEOUT = 15.0  # seconds until an unresponsive server is given up
FINISH_TIMEOUT = 60.0

_log = logging.getLogger(__name__)


class WandbLogger(Logger):
    """Logs to Weights & Biases against images seen, with its files in the run folder.

    ``auto`` is online where a key is at hand and the server answers, else offline with one line that says so; the
    environment variable ``WANDB_MODE`` is obeyed. A resumed run continues under the id in ``wandb_id.txt`` and sends
    nothing again that ``wandb_sent.json`` says was sent: what wandb has cannot be taken back, and a resumed run repeats
    it exactly. Only rank zero logs, and any failure of wandb ends with one warning instead of the run.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        name: str,
        *,
        project: str = "securegan",
        entity: str | None = None,
        mode: Mode = "auto",
        tags: Sequence[str] = (),
    ) -> None:
        """Args:
        folder: the run folder.
        config: the composed configuration; values under a secret's name are hidden.
        name: the run's name.
        project: the project it belongs to.
        entity: the team or user; the account's default where None.
        mode: ``online`` warns where it has to fall back to offline, ``auto`` only says so.
        tags: of the run.
        """
        super().__init__()
        self.folder, self.config, self._name = Path(folder), redacted(dict(config)), name
        self.project, self.entity, self.mode, self.tags = project, entity, mode, list(tags)
        self._run: Any = None
        self._closed = False
        self._images_seen: int | None = None
        self._sent = Sent(self.folder / "wandb_sent.json")

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        path = self.folder / "wandb_id.txt"
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    @property
    def save_dir(self) -> str:
        return str(self.folder)

    @property
    def experiment(self) -> Any:
        """The run of wandb, started at first use; None where wandb is off, has failed, or this is not rank zero."""
        if self._run is None and not self._closed and getattr(rank_zero_only, "rank", 0) == 0:
            self._start()
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the run's configuration was given at the start."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log scalars; ``images_seen`` among them is their x-axis."""
        values = {key: int(value) if key == X_COLUMN else float(value) for key, value in metrics.items()}
        self._images_seen = int(metrics.get(X_COLUMN, self._images_seen or 0))
        self._guarded(lambda run: run.log(values), "steps", self._images_seen)

    @rank_zero_only
    def log_epoch(self, row: Mapping[str, Any]) -> None:
        """Log a row of metrics.json."""
        finite = {key: float(value) for key, value in row["metrics"].items() if value is not None}
        self._images_seen = int(row[X_COLUMN])
        values = {X_COLUMN: self._images_seen, "epoch": int(row["epoch"]), **finite}
        self._guarded(lambda run: run.log(values), "epochs", self._images_seen)

    @rank_zero_only
    def log_images(self, key: str, grid: Tensor, images_seen: int | None = None) -> None:
        """Log a picture (C, H, W) or a batch (N, C, H, W) in [0, 1]."""
        pixels = (grid.detach().float().cpu().clamp(0, 1).numpy() * 255).round().astype(np.uint8)
        pictures = pixels if pixels.ndim == 4 else pixels[None]

        def log(run: Any) -> None:
            import wandb

            images = [wandb.Image(picture.transpose(1, 2, 0).squeeze()) for picture in pictures]
            run.log({key: images, **self._at(images_seen)})

        self._guarded(log, "epochs", images_seen)

    @rank_zero_only
    def log_histogram(self, key: str, values: ArrayLike, images_seen: int | None = None) -> None:
        """Log a distribution; values that are not numbers are left out."""
        numbers = np.asarray(values, dtype=np.float64).ravel()
        finite = numbers[np.isfinite(numbers)]

        def log(run: Any) -> None:
            import wandb

            run.log({key: wandb.Histogram(finite.tolist()), **self._at(images_seen)})

        if finite.size:
            self._guarded(log, "epochs", images_seen)

    @rank_zero_only
    def log_release(self, summary: Mapping[str, Any]) -> None:
        """Keep what was released and how it verified with the run's summary: counts, verdicts and public names."""
        told = {f"release/{key}": summary[key] for key in ("images", "released", "review", "rejected", "signer")}
        told |= {f"release/verdict {verdict}": count for verdict, count in summary["verdicts"].items()}
        told["release/log_size"] = summary["log"]["size"]
        self._guarded(lambda run: run.summary.update(told), "epochs", None)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Nothing yet: Lightning calls this after each of fit and test, ``finish`` ends the run."""

    @rank_zero_only
    def finish(self) -> None:
        """End the run; the task calls this in a ``finally``. Later calls do nothing."""
        run, self._run, self._closed = self._run, None, True
        if run is not None:
            try:
                self._sent.write()
                run.finish()
            except Exception as error:
                _log.warning(
                    "wandb did not finish cleanly (%s); the run's files are in %s.", _brief(error), self.folder
                )

    def _at(self, images_seen: int | None) -> dict[str, int]:
        """The x value of a picture or a distribution: the given one, else that of the latest scalars."""
        seen = self._images_seen if images_seen is None else images_seen
        return {} if seen is None else {X_COLUMN: seen}

    def _guarded(self, action: Callable[[Any], None], kind: Kind, images_seen: int | None) -> None:
        """Act on the run, once for each ``kind`` and point; give wandb up for the rest of this run where it fails."""
        run = self.experiment
        if run is None or not self._sent.is_new(kind, images_seen):
            return
        try:
            action(run)
            self._sent.note(kind, images_seen)
        except Exception as error:
            _log.warning("wandb failed (%s); this run goes on without it.", _brief(error))
            self.finish()

    def _start(self) -> None:
        mode = self._resolved_mode()
        if mode == "disabled":
            self._closed = True
            return
        run_id = self._run_id()
        try:
            self._run = self._init(mode, run_id)
            return
        except Exception as error:
            failure = _brief(error)
        if mode == "online":
            _log.warning("wandb could not start online (%s); logging offline.", failure)
            try:
                # Another id: wandb's service may hold on to that of the failed start.
                self._run = self._init("offline", f"{run_id}-offline")
                return
            except Exception as error:
                failure = _brief(error)
        self._closed = True
        _log.warning("wandb could not start (%s); this run goes on without it.", failure)

    def _resolved_mode(self) -> Literal["online", "offline", "disabled"]:
        if self.mode in ("offline", "disabled"):
            return self.mode
        wanted = os.environ.get("WANDB_MODE", "").lower() if self.mode == "auto" else ""
        if wanted in ("offline", "dryrun"):
            return "offline"
        if wanted == "disabled" or os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1"):
            return "disabled"
        import wandb

        server = str(os.environ.get("WANDB_BASE_URL") or wandb.Settings().base_url)
        if not has_key(server):
            _log.warning("No wandb key is at hand, so wandb logs offline into the run folder.")
            return "offline"
        if not reachable(server):
            _log.warning("The wandb server does not answer, so wandb logs offline into the run folder.")
            return "offline"
        return "online"

    def _run_id(self) -> str:
        """The id of the run in this folder, drawn at the first start."""
        if not (run_id := self.version):
            run_id = secrets.token_hex(4)
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "wandb_id.txt").write_text(f"{run_id}\n", encoding="utf-8")
        return run_id

    def _init(self, mode: Literal["online", "offline"], run_id: str) -> Any:
        import wandb

        settings = _quiet_settings()
        wandb.setup(settings=wandb.Settings(**settings))
        run = wandb.init(
            project=self.project,
            entity=self.entity,
            dir=str(self.folder),
            id=run_id,
            name=self._name,
            tags=self.tags,
            config=self.config,
            mode=mode,
            resume="allow" if mode == "online" else None,  # offline runs of one id are joined by `wandb sync --append`
            reinit="create_new",  # each job of a sweep is a run of its own, whatever its predecessor left open
            settings=wandb.Settings(**settings),
        )
        run.define_metric(X_COLUMN, hidden=True)
        run.define_metric("*", step_metric=X_COLUMN)
        return run


def _quiet_settings() -> dict[str, Any]:
    """Nothing printed or captured, nothing about the machine or the command line (which may hold secrets) sent."""
    import wandb

    wanted = {
        "silent": True,
        "console": "off",
        "init_timeout": INIT_TIMEOUT,
        "login_timeout": INIT_TIMEOUT,
        "finish_timeout": FINISH_TIMEOUT,
        "disable_git": True,
        "disable_code": True,
        "save_code": False,
        "symlink": False,
        "x_disable_stats": True,
        "x_disable_meta": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
    }
    return {key: value for key, value in wanted.items() if key in wandb.Settings.model_fields}


def _brief(error: BaseException) -> str:
    """The first line of an error, without anything that looks like a key."""
    first = (str(error).strip().splitlines() or [""])[0][:160]
    return re.sub(r"[A-Za-z0-9_]{32,}", "<hidden>", first) or type(error).__name__
