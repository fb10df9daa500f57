"""The gate for images from outside: signature, size, decoding within limits, distance from the run's own images.

In that order, so that the cheapest and surest questions are asked first and no decoder sees what a signature refuses.
Every question is put to the same bytes, read once. What it keeps out is in docs/release.md, and so is what it does not.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from securegan.configuration.allowlist import build
from securegan.data.decode import BadImage, decode
from securegan.data.folder import Folder
from securegan.data.module import ImageDataModule
from securegan.errors import UserError
from securegan.release.anomaly import Anomaly, Calibration, threshold_of
from securegan.runs.folder import RunFolder
from securegan.runs.sampling import load_watched
from securegan.security.provenance import sidecar as sidecars
from securegan.security.provenance.requirement import given_store, required
from securegan.security.provenance.trust import Trust

MAX_BYTES = 32 * 2**20
MAX_PIXELS = 16_000_000


@dataclass(frozen=True)
class Limits:
    """What an image from outside may measure."""

    bytes: int = MAX_BYTES
    pixels: int = MAX_PIXELS


LIMITS = Limits()


@dataclass(frozen=True)
class Finding:
    """What the gate says of one image."""

    name: str
    accepted: bool
    reason: str  # empty where it was accepted
    signature: str  # the verdict on its sidecar; empty where nobody asked
    score: float | None = None  # None where it did not come to that


class Gate:
    """Lets an image pass or says why not."""

    def __init__(
        self,
        judge: tuple[Anomaly, float] | None,
        *,
        trust: Trust | None = None,
        require_signed: bool = False,
        limits: Limits = LIMITS,
    ) -> None:
        """Args:
        judge: a calibrated score, and what lies above which it refuses; None asks for signature and limits alone.
        trust: whose signatures count; a sidecar that is there and does not count is refused even where none is needed.
        require_signed: refuse what has no sidecar by a trusted key.
        """
        if require_signed and trust is None:
            raise UserError("signatures are required, but no trust store says whose: give one.")
        self.judge, self.trust, self.require_signed, self.limits = judge, trust, require_signed, limits

    def check(self, name: str, data: bytes, sidecar: bytes | None) -> Finding:
        """Args: data: of the image file; sidecar: its ``.sg.json``, if it has one."""
        verdict, score = "", None
        try:
            verdict, refused = self._signature(data, sidecar)
            if refused:
                raise BadImage(refused)
            if len(data) > self.limits.bytes:
                raise BadImage(f"more than {self.limits.bytes:,} bytes")
            spec = None if self.judge is None else self.judge[0].module.spec
            size, channels = (spec.size, spec.channels) if spec else (1, 3)
            pixels = decode(data, name, size, channels, max_pixels=self.limits.pixels).pixels
            if self.judge is not None:
                anomaly, threshold = self.judge
                score = float(anomaly.scores(torch.from_numpy(pixels.copy())[None].float() / 255))
                if not score <= threshold:  # what is no number is refused
                    raise BadImage(f"unlike the images of the run at the gate ({score:.3g} above {threshold:.3g})")
        except BadImage as bad:
            return Finding(name, False, str(bad), verdict, score)
        return Finding(name, True, "", verdict, score)

    def _signature(self, data: bytes, sidecar: bytes | None) -> tuple[str, str]:
        """The verdict, and why the image is refused for it."""
        if self.trust is None:
            return "", ""
        if sidecar is None:
            return "unsigned", "unsigned" if self.require_signed else ""
        found = sidecars.judge(data, sidecar, self.trust)
        refused = "" if found.verdict.acceptable else ": ".join(filter(None, [found.verdict.value, found.reason]))
        return found.verdict.value, refused

    @property
    def key(self) -> str:
        """A digest of what decides: other data pass another gate."""
        judged = None if self.judge is None else (self.judge[0].weights, self.judge[1])
        store = None if self.trust is None else self.trust.contents.model_dump_json()
        told = repr((judged, store, self.require_signed, self.limits))
        return hashlib.sha256(told.encode()).hexdigest()


def open_gate(
    run: Path | None,
    *,
    false_positive_rate: float,
    trust: Trust | None = None,
    require_signed: bool = False,
    limits: Limits = LIMITS,
    asked_by: tuple[Path, ...] = (),
) -> Gate:
    """The gate of a run, of trusted signers, or of both.

    Args:
        run: whose images are usual; its calibration is measured where it has none yet, for which its data are needed.
        false_positive_rate: share of clean images like the run's own that are refused as unusual.
        trust: sidecars that are there must count by it; who must have signed the run too, where ``require_signed``.
        require_signed: refuse what has none.
        limits: of a file.
        asked_by: runs whose data are read meanwhile, and pass this gate.
    Raises UserError where either cannot be used.
    """
    if run is None:
        return Gate(None, trust=trust, require_signed=require_signed, limits=limits)
    anomaly, calibration = calibrated(run, trust if require_signed else None, asked_by)
    judge = (anomaly, threshold_of(calibration, false_positive_rate))
    return Gate(judge, trust=trust, require_signed=require_signed, limits=limits)


def calibrated(run: Path, trust: Trust | None = None, asked_by: tuple[Path, ...] = ()) -> tuple[Anomaly, Calibration]:
    """The score of the run's chosen checkpoint and its calibration, which is measured and kept where there is none.

    Args: trust: who must have signed the checkpoint; None asks for nobody but whom the process' environment names. A
    calibration that lies there is not signed, and is measured again where signatures are needed. asked_by: see
    :func:`open_gate`.
    """
    if run.resolve() in asked_by:
        chain = " -> ".join(str(each) for each in (*asked_by, run.resolve()))
        raise UserError(f"data.intake leads in a circle ({chain}): a run's data cannot pass a gate measured on them.")
    trust = trust or required()
    found = load_watched(run, trust=trust)
    weights = str(found.entry["weights"]["sha256"])
    anomaly = Anomaly(found.module, found.detectors, weights)
    calibration = Calibration.load(run, weights) if trust is None else None
    if calibration is None:
        calibration = anomaly.calibrate(data_of(found.folder, asked_by))
        calibration.save(run)
    anomaly.take(calibration)
    return anomaly, calibration


def data_of(folder: RunFolder, asked_by: tuple[Path, ...] = ()) -> ImageDataModule:
    """The run's own data, as it read them. Raises UserError where they are not there or have changed."""
    config = folder.config()
    data: ImageDataModule = build(config.data, Path(str(config.cache_dir)).expanduser(), int(config.seed))
    attach_gate(data, (*asked_by, folder.path.resolve()))
    data.prepare_data()
    data.setup("fit")
    if data.spec != folder.spec():
        raise UserError(f"the data of {folder.path} have changed since the run: restore them.")
    return data


def attach_gate(data: ImageDataModule, asked_by: tuple[Path, ...] = ()) -> None:
    """Have the images of a folder pass the gate that its settings ask for, before they are prepared.

    Args: asked_by: see :func:`open_gate`.
    """
    if not isinstance(data, Folder):
        return
    signatures = data.require_signed or data.trust is not None
    if data.intake is None and not signatures:
        return
    gate = open_gate(
        None if data.intake is None else Path(data.intake).expanduser(),
        false_positive_rate=data.false_positive_rate,
        trust=given_store(None if data.trust is None else Path(data.trust).expanduser()) if signatures else None,
        require_signed=data.require_signed,
        asked_by=asked_by,
    )
    data.gate = lambda name, content, sidecar: gate.check(name, content, sidecar).reason
    data.gate_key = gate.key
