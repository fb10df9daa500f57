"""From a trained generator to a folder that can be given away."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securegan.detectors.base import Detector
from securegan.errors import UserError
from securegan.models.base import GenerativeModule
from securegan.release.entries import ReleaseLog, log_of, open_log
from securegan.release.finishing import sealing, signing
from securegan.release.keys import ReleaseKeys
from securegan.release.pipeline import Pipeline, Tools
from securegan.release.plan import OWN_LOG, PLAN, Flagged, Plan, opened, plain_text, plan_of, read_plan
from securegan.release.record import Counts
from securegan.release.screening import Screen
from securegan.release.stopwatch import Stopwatch
from securegan.runs.folder import CONFIG, SPEC, RunFolder, git_commit
from securegan.security.provenance.log import Log


@dataclass(frozen=True)
class Source:
    """What the images are of; digests are SHA-256."""

    model: str
    config: str
    dataset: str
    run: str

    @classmethod
    def of(cls, folder: RunFolder, entry: Mapping[str, Any]) -> "Source":
        """What was loaded: the checkpoint of an index' ``entry``, by the configuration that ``folder`` holds."""
        config, dataset = folder.digest(CONFIG), folder.digest(SPEC)
        return cls(entry["weights"]["sha256"], config, dataset, plain_text(folder.path.resolve().name))


@dataclass(frozen=True)
class Order:
    """Which images: of a seed, of a class or of all in turn, and what becomes of those that are flagged."""

    seed: int = 0
    label: int | None = None
    averaged: bool = True
    on_flagged: Flagged = "review"


@dataclass(frozen=True)
class Released:
    """What there is now, and what this process took for its part of it."""

    counts: Counts
    asked: int
    made: int  # images of this process
    watch: Stopwatch
    plan: Plan
    log: Log


def release(
    module: GenerativeModule,
    detectors: list[Detector],
    source: Source,
    out: Path,
    n: int,
    keys: ReleaseKeys,
    order: Order = Order(),
    *,
    log: Path | None = None,
    progress: Callable[[int], object] = lambda done: None,
) -> Released:
    """Bring the release in ``out`` to ``n`` images, beginning it where there is none; see :mod:`.pipeline`.

    Args:
        module: with its weights loaded.
        detectors: of the run; none screens nothing.
        source: of the images.
        out: a new or empty folder, or one with a release of the same plan.
        n: images sampled, with those that are flagged.
        keys: who signs, and for whom the files are sealed, if for anybody.
        order: which images.
        log: a folder with a log for several releases; by default each has its own in ``out``.
        progress: called with how many images are done.

    Raises:
        UserError: something cannot be used or written, or does not fit what is there.
    """
    screen = Screen(module, detectors)
    shared = None if log is None else Log(log)
    origin, new = _origin(shared, out, keys)
    plan = plan_of(
        {
            "model": source.model,
            "config": source.config,
            "dataset": source.dataset,
            "run": source.run,
            "seed": order.seed,
            "label": order.label,
            "averaged": order.averaged,
            "on_flagged": order.on_flagged,
            "detectors": screen.facts(),
            "recipients": list(keys.kids),
            "log": origin,
        }
    )
    commit = git_commit(40)

    def begin() -> None:
        if shared is not None and new:
            open_log(shared.folder, origin, keys.keeper)

    with opened(out, plan, begin, keys.are_for) as begun:
        own = log_of(out, begun, shared, keys, begin=True)
        tools = Tools(
            signing(begun, keys, None if commit is None or commit.endswith("+") else commit),
            sealing(begun, keys),
            ReleaseLog(own, keys.keeper, keys.signed_before, begun.id),
            {"images": keys.signer.public, "log": keys.keeper.public},
            keys.check,
            keys.kids,
        )
        pipeline = Pipeline(module, screen, begun, out, tools)
        try:
            counts = pipeline.run(n, progress)
        finally:
            for key in keys.counted:
                keys.ring.count(key, sealed=pipeline.sealed)
    return Released(counts, n, pipeline.made, pipeline.watch, begun, own)


def _origin(shared: Log | None, out: Path, keys: ReleaseKeys) -> tuple[str, bool]:
    """Of the log of several releases, empty where there is none; and whether it is to be begun, for a new release."""
    if shared is None:
        return "", False
    if shared.checkpoint_path.exists():
        return keys.require_keeper(shared).origin, False
    if (out / PLAN).exists():
        before = read_plan(out / PLAN).log
        told = f"is in the log {before}: name its folder with --log, or restore it" if before else OWN_LOG
        raise UserError(f"there is no log in {shared.folder}, and the release in {out} {told} (nothing was made).")
    return f"securegan/log/{secrets.token_hex(16)}", True
