"""One run from its composed config to its report: what is built in which order, and where everything is written."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from types import TracebackType
from typing import Any, Self

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.threat import Radii
from securegan.configuration.allowlist import build, build_each
from securegan.configuration.attacked import with_attack
from securegan.configuration.paths import with_absolute_paths
from securegan.configuration.validate import validate
from securegan.data.module import ImageDataModule
from securegan.defenses.base import Defense
from securegan.detectors.base import Detector
from securegan.errors import UserError
from securegan.evaluation.callback import Evaluation, Row
from securegan.evaluation.evaluator import Evaluator
from securegan.evaluation.extractors import build_extractors
from securegan.evaluation.outcome import Outcome
from securegan.evaluation.protocol import Protocol
from securegan.evaluation.surfaces import check_surfaces
from securegan.judges.cache import load_or_train_judge
from securegan.metrics.detection import check_calibration
from securegan.models.base import GenerativeModule
from securegan.models.building import build_model
from securegan.release.intake import attach_gate
from securegan.release.release import Order, Source, release
from securegan.release.settings import Security
from securegan.release.verification import summarise
from securegan.reports.loggers import Loggers
from securegan.reports.progress import progress
from securegan.reports.results import RunResults
from securegan.reports.terminal import print_summary
from securegan.reports.write import write_report
from securegan.runs.checkpoints import Checkpoints, load_weights, verified, verified_weights
from securegan.runs.folder import RunFolder
from securegan.runs.journal import Journal
from securegan.runs.measured import protocol_of
from securegan.runs.signed import require_trusted, sign_checkpoint
from securegan.runs.surrogate import surrogate_of_run
from securegan.security.errors import PolicyError
from securegan.security.provenance.requirement import required
from securegan.security.provenance.trust import Trust


class Experiment:
    """A run's parts, built in order; a context manager that closes loggers and the folder's lock."""

    def __init__(self, folder: RunFolder, config: DictConfig, *, resumed: bool, trust: Trust | None = None) -> None:
        """Args: trust: who must have signed what is loaded; None asks :func:`trust_of`."""
        self.folder, self.config, self.resumed = folder, config, resumed
        self.trained = RunFolder(Path(config.ckpt)) if config.ckpt and not resumed else folder
        self.tested: Mapping[str, Any] | None = None  # the index' entry of the checkpoint that :meth:`test` loaded
        self.seed = int(config.seed)
        cache = Path(str(config.cache_dir)).expanduser()
        self.security: Security | None = build(config.security) if config.security else None
        self.keys = None if self.security is None else self.security.find_keys()
        self.trust = trust or trust_of(config)
        if self.trust is not None and self.trained is folder:
            require_trusted(None if self.keys is None else self.keys.signer, self.trust)
        self.protocol: Protocol = build(config.metrics)
        self.data: ImageDataModule = build(config.data, cache, self.seed)
        attach_gate(self.data)
        self.data.prepare_data()
        self.data.setup("fit")
        self.data.train_dataloader()  # refuses a batch that does not fit before anything is trained
        spec = self.data.spec
        self.module: GenerativeModule = build_model(config.model, spec, self.seed)
        radii = Radii.of(spec.eps, spec.channels * spec.size**2)
        self.attack: EvasionAttack | None = build(config.attack, radii) if config.attack else None
        if self.attack is not None:
            self.attack.check_radius()
        self.detectors: list[Detector] = build_each(config.detector)
        if self.attack is not None:
            check_surfaces(self.attack, self.module, self.detectors)
        asked = None if self.attack is None else self.attack.surrogate
        surrogate = None if asked is None else surrogate_of_run(asked, spec, self.trust)
        for detector in self.detectors:
            check_calibration(self.data.split_size("calibrate"), detector.false_positive_rate)
            detector.attach(self.module)  # now rather than in setup, so that checkpoints can be loaded without a fit
        self.defenses: list[Defense] = build_each(config.defense, spec.eps, self.seed)
        self.judge = load_or_train_judge(self.data, cache)
        extractors = build_extractors(self.protocol, spec, cache)
        self.evaluator = Evaluator(
            self.data, self.judge, extractors, self.attack, self.protocol, self.seed, cache, surrogate
        )
        self.loggers = Loggers(config, folder.path)
        spent = folder.rows[-1].get("seconds") if resumed and folder.rows else None
        self.evaluation = Evaluation(self.evaluator, self.protocol, self.detectors, self._write_row, spent)
        self.trainer = self._build_trainer()
        if is_main_process():
            folder.write_environment(continued=resumed)
            folder.write_spec(spec)

    @classmethod
    def start(cls, path: Path, config: DictConfig, trust: Trust | None = None) -> Self:
        """A new run in ``path``; trust: who must have signed what it loads, None asks :func:`trust_of`."""
        config = with_absolute_paths(config)
        if not is_main_process():
            return cls(RunFolder(path), config, resumed=False, trust=trust)
        folder = RunFolder.create(path, config)
        try:
            return cls(folder, config, resumed=False, trust=trust)
        except BaseException:  # an interrupt while the judge is trained too
            folder.discard()
            raise

    @classmethod
    def resume(cls, path: Path) -> Self:
        """The run in ``path`` from its last saved point; its own config is used, checked like any other."""
        folder = RunFolder.open(path)
        config = folder.config()
        validate(config)
        if config.ckpt:
            raise UserError(
                f"{path} holds an attack on the run {config.ckpt}, and nothing was trained there: give the same "
                "securegan attack again, which goes on where it stopped."
            )
        trust = trust_of(config)
        if folder.has_saved_point():
            verified(folder, "last", trust)
        elif trust is not None:
            raise PolicyError(f"{path} has no saved point, and so nothing in it is signed: start the run anew.")
        if is_main_process():
            folder.lock()
        try:
            return cls(folder, config, resumed=True)
        except BaseException:
            folder.release()
            raise

    @classmethod
    def attack_again(cls, trained: Path, out: Path, overrides: Sequence[str], trust: Trust | None = None) -> Self:
        """The chosen checkpoint of the run in ``trained`` under another attack, with a folder and report of its own.

        The same call on the same ``out`` goes on where an interrupted one stopped. ``trust``: who must have signed the
        checkpoint; None asks nobody but for whom the run's own configuration names.
        """
        if (out / "report.html").exists():
            raise UserError(f"--out={out} holds a finished run or attack: choose another folder.")
        source = RunFolder.open(trained)
        config = with_attack(source.config(), overrides, trained)
        trust = trust or trust_of(config)
        verified_weights(source, "best", trust)
        experiment = cls.start(out, config, trust)
        experiment.folder.rows = source.rows
        return experiment

    def _build_trainer(self) -> pl.Trainer:
        callbacks: list[pl.Callback] = [*self.detectors, *self.defenses, self.evaluation]
        callbacks.append(progress(lambda: self.folder.rows))
        callbacks.append(
            Checkpoints(
                self.folder.checkpoints,
                self.protocol,
                lambda: self.evaluation.latest,
                self.loggers.flush,
                None if self.keys is None else self._sign,
            )
        )
        return build(self.config.trainer, self.folder.path, callbacks, self.loggers.each)

    def _sign(self, entry: Mapping[str, Any]) -> None:
        assert self.keys is not None
        sign_checkpoint(self.folder, entry, self.keys.signer, self.seed)

    def _write_row(self, row: Row, outcome: Outcome) -> None:
        self.folder.add_row(row)
        self.loggers.log_epoch(row, outcome)

    def fit(self) -> None:
        """Train, from the last saved point where the run is resumed."""
        point = None
        if self.resumed:
            epoch = 0  # a run that ended before its first saved point starts again
            if self.folder.has_saved_point():
                point, entry = verified(self.folder, "last", self.trust)
                epoch = entry["epoch"]
            self.data.set_epoch(epoch)  # Lightning opens the first epoch's loader before any hook
            if is_main_process():
                self.folder.prune(epoch)
                self.loggers.prune(self._images_at(epoch))
        try:
            self.trainer.fit(self.module, datamodule=self.data, ckpt_path=point, weights_only=True)
        except UnpicklingError as error:
            raise UserError(f"the checkpoint {point} holds more than plain data, and nothing of it was run.") from error
        self.trainer.strategy.barrier()

    def _images_at(self, epoch: int) -> int:
        return epoch * (self.data.split_size("train") // self.data.batch_size) * self.data.batch_size

    def test(self) -> None:
        """Every figure that is reported: the chosen checkpoint on the test split."""
        entry = self.tested = load_weights(self.module, self.trained, "best", self.trust)
        self.module.to(self.trainer.strategy.root_device)
        start = time.monotonic()
        journal = Journal(self.folder.path / "attacks")
        self.evaluator.memory = journal
        outcome = self.evaluation.measure(self.module, self.data, "test", final=True)
        self.evaluation.seconds["test"] = time.monotonic() - start
        if not is_main_process():
            return
        self.folder.results = {
            "test": {
                "checkpoint": "best",
                "epoch": entry["epoch"],
                "split": "test",
                "metrics": outcome.metrics,
                "n": outcome.n,
                "interval": outcome.interval,
                "notes": [*outcome.notes, *([entry["note"]] if "note" in entry else [])],
            },
            "protocol": protocol_of(self, outcome, entry.get("note")),
            "checks": [vars(check) for check in outcome.checks],
            "seconds": self.evaluation.seconds,
            "attack_seconds": outcome.seconds,
        }
        self.folder.write_arrays("arrays.npz", outcome.arrays)
        self.folder.write_arrays("examples.npz", outcome.examples)
        if outcome.flagged:
            self.folder.write_flagged(**outcome.flagged)
        self.folder.write_metrics()  # last: a run that has it has the rest
        journal.forget()

    def release(self) -> None:
        """The run's set of samples for others, where ``security`` asks for one; rank 0 alone, after :meth:`test`."""
        if self.security is None or self.keys is None or self.config.ckpt or not is_main_process():
            return
        assert self.tested is not None
        out = self.folder.path / "release"
        order = Order(seed=self.seed, on_flagged=self.security.on_flagged)
        released = release(
            self.module,
            self.detectors,
            Source.of(self.folder, self.tested),
            out,
            self.security.images,
            self.keys,
            order,
            log=self.security.log,
        )
        self.loggers.log_release(summarise(released, out, self.keys))

    def report(self) -> None:
        """Figures, report.html and the closing table; rank 0 alone."""
        if not is_main_process():
            return
        report = write_report(self.folder.path)
        print_summary(RunResults.load(self.folder.path), report)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loggers.end("success" if kind is None else "failed")
        self.folder.release()


def trust_of(config: DictConfig) -> Trust | None:
    """Who must have signed the checkpoints that a run of this configuration loads; None where nobody must.

    What the process' environment asks for goes before what the configuration does, which may be somebody else's.
    """
    security: Security | None = build(config.security) if config.security else None
    return required() or (None if security is None else security.trust())


def is_main_process() -> bool:
    """Whether this is rank 0, before a process group exists too."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0
