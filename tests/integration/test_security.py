"""``security=full`` in the main job: signed checkpoints, a released set of samples, and nothing secret in the run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from securegan.errors import UserError
from securegan.experiment import Experiment
from securegan.runs.folder import RunFolder
from securegan.runs.sampling import load_module
from securegan.security.errors import PolicyError
from securegan.security.keys.ring import KeyRing
from securegan.security.provenance.log import Log, read_entry
from securegan.security.provenance.memory import Memory
from securegan.security.provenance.signing import Signer
from securegan.security.provenance.trust import change_store, new_store, read_store, trusted_key


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyRing:
    from datetime import UTC, datetime, timedelta

    monkeypatch.setenv("SECUREGAN_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("SECUREGAN_TRUST", str(tmp_path / "trust"))
    ring = KeyRing.open()
    key = ring.new("release", "ed25519")
    ring.new("reader", "aes256")
    memory, root = Memory(), Signer(bytes(range(32)))
    memory.folder.mkdir()
    new_store(memory.folder / "store.json", "test", root, memory)
    now = datetime.now(UTC)
    trusted = trusted_key(
        "release", Signer(ring.secret(key)).public, ["image", "checkpoint", "log"], now, now + timedelta(days=1)
    )
    change_store(memory.folder / "store.json", root, memory, lambda keys: [*keys, trusted])
    return ring


def test_a_secured_run(
    ring: KeyRing,
    tmp_path: Path,
    run_in_process: Callable[..., Any],
    small_settings: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "run"
    plain = [*small_settings, "attack=none", "defense=none", "logger=[csv,wandb]", "logger.wandb.mode=offline"]
    settings = [item for item in plain if not item.startswith(("attack.", "defense."))]
    overrides = [
        "security=full",
        "detector=none",
        "security.images=40",
        "security.require_signed=true",
        "trainer.max_epochs=2",
    ]
    experiment = run_in_process(folder, *settings, *overrides)
    experiment.release()
    experiment.report()
    summary = json.loads((folder / "release" / "summary.json").read_text())
    assert summary["images"] == 40 and sum(summary["verdicts"].values()) == summary["released"] > 0
    assert set(summary["verdicts"]) == {"byte-exact"} and summary["sealed_for"] == [ring.find("reader").kid]
    log = Log(folder / "release" / "log")
    checkpoint, _ = log.checkpoint([experiment.keys.signer.public])
    entries = [read_entry(line) for line in log.lines(checkpoint)]
    assert [entry.kind for entry in entries[:3]] == ["training", "key", "key"]
    assert [entry.details["number"] for entry in entries[3:]] == list(range(40))
    assert checkpoint.root.hex() == summary["log"]["root"]
    report = (folder / "report.html").read_text()
    assert "What was released" in report and summary["signer"] in report and "byte-exact" in report
    trust = read_store(Memory().folder / "store.json", Memory())
    for which in ("best", "last"):
        load_module(folder, which, trust)
    names = {path.name for path in (folder / "checkpoints").glob("*.sg.json")}
    index = json.loads((folder / "checkpoints" / "index.json").read_text())
    assert names == {f"{Path(entry['file']).stem}.sg.json" for entry in index.values()}
    for key in ring:
        secret = ring.secret(key)
        for path in folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert secret not in content and secret.hex().encode() not in content, path
    # a resumed run reads a pickled file: not without the signature
    with Experiment.resume(folder):
        pass
    # nor where whoever changed the folder says that it needs none
    config = folder / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("require_signed: true", "require_signed: false"))
    with Experiment.resume(folder):
        pass
    with monkeypatch.context() as patch:
        patch.setenv("SECUREGAN_REQUIRE_SIGNED", "1")
        with pytest.raises(PolicyError, match=r"config\.yaml is refused"):
            Experiment.resume(folder)
        (folder / "checkpoints" / "index.json").rename(folder / "kept")
        with pytest.raises(PolicyError, match="no saved point"):
            Experiment.resume(folder)
        (folder / "kept").rename(folder / "checkpoints" / "index.json")
    config.write_text(text)
    (folder / "checkpoints" / f"{Path(index['last']['file']).stem}.sg.json").unlink()
    with pytest.raises(PolicyError, match="signatures are required"):
        Experiment.resume(folder)
    assert not (RunFolder.open(folder).config().security.get("secret"))


def test_a_missing_key_ends_a_run_before_it_trains(
    ring: KeyRing, tmp_path: Path, run_in_process: Callable[..., Any], small_settings: list[str]
) -> None:
    with pytest.raises(UserError, match="has no key nobody"):
        run_in_process(tmp_path / "run", *small_settings, "security=signed", "security.sign_with=nobody")
    assert not (tmp_path / "run").exists()
