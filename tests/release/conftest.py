"""A small run that was never trained: narrow networks, a detector fitted on digits, everything where a run keeps it."""

import os
import secrets
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from securegan.configuration.allowlist import build, build_each
from securegan.configuration.compose import compose_checked
from securegan.data.module import ImageDataModule
from securegan.detectors.base import Detector
from securegan.models.base import GenerativeModule
from securegan.runs.atomic import write_json
from securegan.runs.checkpoints import save_weights
from securegan.runs.folder import RunFolder
from securegan.runs.sampling import in_8_bits, whole_batches
from securegan.runs.signed import sign_checkpoint
from securegan.security.keys.ring import KeyRing
from securegan.security.provenance.memory import Memory
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.trust import Purpose, Trust, change_store, new_store, read_store, trusted_key

LOUDER = 8.0
PARTS = {"gan": ("generator", "discriminator", "class"), "vae": ("encoder", "decoder")}
PARTS["hybrid"] = (*PARTS["gan"], "encoder")
SMALL = ["data.max_images=600", "data.calibrate=0.3", "model.latent_dim=6", "attack=none", "logger=none"]


def _make_run(
    path: Path, *overrides: str, model: str = "gan", flagged: float = 0.2, signer: Signer | None = None
) -> Path:
    """Args: flagged: share of images, to which the detectors' thresholds are moved; signer: of the checkpoint."""
    narrow = [f"model.{part}_width=4" for part in PARTS[model]]
    (config,) = compose_checked([*SMALL, f"model={model}", *narrow, *overrides])
    folder = RunFolder.create(path, config)
    data = _data(config)
    folder.write_spec(data.spec)
    module: GenerativeModule = build(config.model, data.spec, 0)
    detectors: list[Detector] = build_each(config.detector)
    for detector in detectors:
        detector.attach(module)
        detector.fit(module, data)
    with torch.no_grad():
        for tensor in module.generator_network(True).parameters():
            tensor.mul_(LOUDER)  # so that images differ
    batches = whole_batches(module, 0, 96, seed=0)
    shown = torch.cat([in_8_bits(images).float() / 255 for _, images, _ in batches])
    for detector in detectors:
        found = detector.scores(module, shown)
        module.attached[detector.name].threshold.fill_(found.quantile(1 - flagged))
    folder.checkpoints.mkdir()
    weights = save_weights(module, folder.checkpoints / "epoch-0001.safetensors")
    entry = {"file": "epoch-0001.ckpt", "epoch": 1, "sha256": "", "weights": weights}
    if signer is not None:
        (folder.checkpoints / entry["file"]).write_bytes(b"nobody reads it")
        sign_checkpoint(folder, entry, signer, 0)
    write_json(folder.checkpoints / "index.json", {"last": entry, "best": entry})
    folder.release()
    return path


def _data(config: DictConfig) -> ImageDataModule:
    data: ImageDataModule = build(config.data, Path(config.cache_dir), 0)
    data.setup()
    return data


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """``make_run(path, *overrides, model=..., flagged=..., signer=...)``."""
    return _make_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose detector flags a fifth of its images."""
    return _make_run(tmp_path_factory.mktemp("runs") / "run")


class Office:
    """A key ring with a signer and a reader, and a trust store that trusts the signer."""

    def __init__(self, folder: Path) -> None:
        self.ring = KeyRing.open(folder / "keys")
        self.signing = self.ring.new("release", "ed25519")
        self.ring.new("reader", "x25519")
        self.signer = Signer(self.ring.secret(self.signing))
        self.memory = Memory(folder / "trust")
        self.store = self.memory.folder / "store.json"
        self.root = Signer(secrets.token_bytes(32))
        self.memory.folder.mkdir()
        new_store(self.store, "test", self.root, self.memory)
        self.believe("release", self.signer, "image", "checkpoint", "log")

    def believe(self, name: str, signer: Signer, *purposes: Purpose) -> None:
        now = datetime.now(UTC)
        key = trusted_key(name, signer.public, purposes, now - timedelta(days=1), now + timedelta(days=1))
        change_store(self.store, self.root, self.memory, lambda keys: [*keys, key])

    def trust(self) -> Trust:
        return read_store(self.store, self.memory)


@pytest.fixture
def office(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Office:
    """Where commands and runs find it."""
    folder = tmp_path_factory.mktemp("office")
    made = Office(folder)
    monkeypatch.setenv("SECUREGAN_KEYS", str(folder / "keys"))
    monkeypatch.setenv("SECUREGAN_TRUST", str(folder / "trust"))
    return made


def _killed(at: str, after: int, act: Callable[[], object], *, done: bool) -> int:
    """The status of a process that kills itself at (or just after) call number ``after`` of the function ``at``."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    torch.set_num_threads(1)
    try:
        with pytest.MonkeyPatch.context() as patch:
            calls = iter(range(10**6))
            found = _resolved(at)

            def deadly(*args: Any, **kwargs: Any) -> Any:
                now = next(calls) == after
                if now and not done:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = found(*args, **kwargs)
                if now:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            patch.setattr(at, deadly)
            act()
    finally:
        os._exit(0)  # only where it was not killed


def _resolved(dotted: str) -> Any:
    from _pytest.monkeypatch import derive_importpath

    name, owner = derive_importpath(dotted, raising=True)
    return getattr(owner, name)


@pytest.fixture
def killed() -> Callable[..., int]:
    """``killed(at, after, act, done=...)``: see :func:`_killed`."""
    return _killed
