"""From a trained generator to a folder that can be given away."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import securegan
from securegan.detectors.base import Detector
from securegan.models.base import GenerativeModule
from securegan.release.entries import ReleaseLog, open_log
from securegan.release.keys import PURPOSE, ReleaseKeys
from securegan.release.pipeline import Counts, Pipeline, Tools
from securegan.release.plan import Flagged, Plan, opened, plain_text
from securegan.release.screening import Screen
from securegan.release.stopwatch import Stopwatch
from securegan.runs.folder import CONFIG, SPEC, RunFolder, git_commit
from securegan.security.envelope.backends import load_backend
from securegan.security.envelope.files import facts_for, seal_bytes
from securegan.security.provenance import sidecar
from securegan.security.provenance.log import Log
from securegan.security.provenance.statement import ImageOrigin, now

LOG = "log"  # the release's own, in its folder


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
    shared = None if log is None else open_log(log, f"securegan/log/{secrets.token_hex(16)}", keys.keeper)
    plan = Plan(
        model=source.model,
        config=source.config,
        dataset=source.dataset,
        run=source.run,
        seed=order.seed,
        label=order.label,
        averaged=order.averaged,
        on_flagged=order.on_flagged,
        detectors=screen.facts(),
        recipients=list(keys.kids),
        log="" if shared is None else shared.checkpoint([keys.keeper.public, *keys.signed_before])[0].origin,
    )
    with opened(out, plan) as begun:
        own = shared or open_log(out / LOG, f"securegan/release/{begun.id}", keys.keeper)
        tools = Tools(
            _signing(begun, keys), _sealing(begun, keys), ReleaseLog(own, keys.keeper, keys.signed_before, begun.id)
        )
        pipeline = Pipeline(module, screen, begun, out, tools)
        try:
            counts = pipeline.run(n, progress)
        finally:
            for key in keys.counted:
                keys.ring.count(key, sealed=pipeline.sealed)
    return Released(counts, pipeline.made, pipeline.watch, begun, own)


def _signing(plan: Plan, keys: ReleaseKeys) -> Callable[[bytes, str, int, str], bytes]:
    commit = git_commit(40)
    common = ImageOrigin(
        software=f"securegan {securegan.__version__}",
        run=plan.run,
        model=plan.model,
        config=plan.config,
        dataset=plan.dataset,
        seed=plan.seed,
        commit=None if commit is None or commit.endswith("+") else commit,
    )

    def sign(data: bytes, name: str, number: int, pixels: str) -> bytes:
        origin = common.model_copy(update={"index": number, "time": now()})
        return sidecar.sign(data, name, keys.signer, origin, pixels)

    return sign


def _sealing(plan: Plan, keys: ReleaseKeys) -> Callable[[bytes, str], bytes] | None:
    """Each file under an id of its own: one cannot be put in the place of another."""
    if not keys.recipients:
        return None
    backend = load_backend()
    return lambda data, name: seal_bytes(
        data, keys.recipients, facts_for(PURPOSE, f"{plan.id}/{name}"), backend=backend
    )
