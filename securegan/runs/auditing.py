"""The audit of a finished or interrupted run: its surfaces are built again as for its own figures."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from rich.progress import track

from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.surfaces import SurfaceName
from securegan.attacks.threat import Radii
from securegan.configuration.allowlist import build
from securegan.configuration.validate import validate
from securegan.data.module import CHUNK, ImageDataModule
from securegan.detectors.base import Detector
from securegan.errors import UserError, near_match
from securegan.evaluation.evaluator import Evaluator
from securegan.evaluation.protocol import Protocol
from securegan.evaluation.surfaces import check_surfaces
from securegan.judges.cache import load_or_train_judge
from securegan.metrics.masking import Check
from securegan.models.base import GenerativeModule
from securegan.runs.atomic import write_json
from securegan.runs.folder import AUDIT, RunFolder
from securegan.runs.sampling import load_watched, moved
from securegan.security.errors import PolicyError
from securegan.security.provenance.requirement import required
from securegan.security.provenance.trust import Trust


def audit_run(
    path: Path,
    *,
    which: str = "best",
    images: int | None = None,
    names: Sequence[str] = (),
    full: bool = False,
    device: str = "cpu",
    before_reading: Callable[[ImageDataModule], None] = lambda data: None,
    trust: Trust | None = None,
) -> None:
    """Audit the surfaces of the run in ``path`` on its test split and leave ``audit.json`` there.

    Args:
        path: a run folder.
        which: ``best``, the chosen checkpoint, or ``last``.
        images: inputs per surface (a quarter as many codes); ``metrics.check_images`` where it is not given.
        names: surfaces; all that the model offers and the attack suits where none is named.
        full: every check, in minutes rather than seconds.
        device: where it is computed.
        before_reading: called with the data before they are prepared.
        trust: who must have signed the checkpoint; None asks nobody but whom the process' environment names.

    Raises:
        UserError: ``path`` holds no run or no such checkpoint, its data have changed, or there is no such surface.
    """
    folder = RunFolder.open(path)
    config = folder.config()
    validate(config)
    cache, seed = Path(str(config.cache_dir)).expanduser(), int(config.seed)
    trained = Path(config.ckpt) if config.ckpt else path  # an attack on a run lies beside it, without weights
    if trained != path and (trust or required()):
        raise PolicyError(
            f"{path} is refused: signatures are required, and an attack has none. Audit {trained}, the run."
        )
    found = load_watched(trained, which, trust)
    module, detectors = found.module, found.detectors
    if trained == path:
        folder, config = found.folder, found.folder.config()  # as it was checked
    data: ImageDataModule = build(config.data, cache, seed)
    before_reading(data)
    data.prepare_data()
    data.setup("fit")
    if data.spec != folder.spec():
        raise UserError(f"the data of {path} have changed since the run: restore them to audit it.")
    attack = _attack(config.attack, data)
    protocol: Protocol = build(config.metrics)
    moved(module, device)
    judge = load_or_train_judge(data, cache).to(device)
    module.settle(data)
    evaluator = Evaluator(data, judge, [], attack, protocol, seed)
    attack.surfaces = _chosen(module, attack, detectors, names)
    images = images or protocol.check_images or CHUNK
    checks: list[Check] = []
    start = time.monotonic()
    for surface in track(evaluator.surfaces(module, detectors).values(), "auditing", transient=True):
        checks += evaluator.audit(module, surface, "test", images, full=full, detectors=detectors)
    write_json(
        path / AUDIT,
        {
            "checkpoint": which,
            "epoch": found.entry["epoch"],
            "split": "test",
            "images": min(images, data.split_size("test")),
            "full": full,
            "seed": seed,
            "attack": {"name": attack.name, **attack.settings()},
            "seconds": time.monotonic() - start,
            "checks": [asdict(check) for check in checks],
        },
    )


def _attack(node: Any, data: ImageDataModule) -> EvasionAttack:
    """The run's attack; PGD within the data set's radius where it had none."""
    radii = Radii.of(data.spec.eps, data.spec.channels * data.spec.size**2)
    return build(node, radii) if node else PGD(radii)


def _chosen(
    module: GenerativeModule, attack: EvasionAttack, detectors: Sequence[Detector], names: Sequence[str]
) -> tuple[SurfaceName, ...]:
    """The surfaces in ``names``, those of the run's figures where there are none."""
    if not names:
        return check_surfaces(attack, module, detectors)
    attack.surfaces = None
    offered = check_surfaces(attack, module, detectors)
    for name in names:
        if name not in offered:
            raise UserError(
                f"--surface={name} is not possible with this run: expected some of {', '.join(offered)}."
                f"{near_match(name, offered)}"
            )
    return cast(tuple[SurfaceName, ...], tuple(dict.fromkeys(names)))
