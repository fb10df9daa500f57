"""Weights & Biases must never stop, slow or question a run."""

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pytorch_lightning.utilities import rank_zero_only

from securegan.reports.wandb_logger import WandbLogger
from securegan.reports.wandb_server import has_key, reachable

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user without key, settings or home."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DISABLED", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield
    wandb.teardown()


def use(logger: WandbLogger) -> None:
    logger.log_metrics({"images_seen": 128, "train/loss": torch.tensor(1.0)})
    logger.log_epoch({"epoch": 1, "images_seen": 128, "metrics": {"quality/fid_judge": 9.0, "detection/auroc": None}})
    logger.log_images("samples", torch.rand(1, 8, 8), images_seen=128)
    logger.log_histogram("distance", torch.tensor([1.0, float("nan"), 2.0]), images_seen=128)
    logger.finalize("success")
    logger.finish()


def logged_runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"))


def test_two_runs_in_one_process_offline_and_fast(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    start = time.monotonic()
    loggers = [WandbLogger(tmp_path / name, {"seed": 0, "passphrase": "open sesame"}, name) for name in ("a", "b")]
    for logger in loggers:
        use(logger)
    assert time.monotonic() - start < 10
    ids = [logger.version for logger in loggers]
    assert len(set(ids)) == 2
    for name, run_id in zip("ab", ids, strict=True):
        (stored,) = logged_runs(tmp_path / name)
        assert stored.name == f"run-{run_id}.wandb"
        assert b"sesame" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert caplog.text.count("logs offline") == 2
    captured = capfd.readouterr()
    assert captured.out == "" and "wandb:" not in captured.err


def test_resumed_run_keeps_its_id(tmp_path: Path) -> None:
    first = WandbLogger(tmp_path, {}, "run", mode="offline")
    use(first)
    second = WandbLogger(tmp_path, {}, "run", mode="offline")
    use(second)
    assert first.version == second.version != ""
    assert {path.name for path in logged_runs(tmp_path)} == {f"run-{first.version}.wandb"}


def test_a_resumed_run_sends_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, int]] = []

    class Run:
        def log(self, values: dict[str, object]) -> None:
            sent.append((min(values.keys() - {"images_seen", "epoch"}), int(str(values["images_seen"]))))

        def finish(self) -> None:
            pass

    monkeypatch.setattr(WandbLogger, "_init", lambda *_: Run())
    first = WandbLogger(tmp_path, {}, "run", mode="offline")
    for seen in (16, 32, 48):  # killed in the second epoch, after the point at 32
        first.log_metrics({"images_seen": seen, "loss": 1.0})
        if seen == 32:
            first.log_epoch({"epoch": 1, "images_seen": seen, "metrics": {"fid": 1.0}})
            first.log_images("samples", torch.rand(1, 8, 8), images_seen=seen)
    second = WandbLogger(tmp_path, {}, "run", mode="offline")
    for seen in (48, 64):
        second.log_metrics({"images_seen": seen, "loss": 1.0})
    second.log_epoch({"epoch": 2, "images_seen": 64, "metrics": {"fid": 1.0}})
    second.log_histogram("distance", torch.ones(3), images_seen=64)
    assert len(sent) == len(set(sent))
    assert sorted(sent) == sorted(
        [*(("loss", seen) for seen in (16, 32, 48, 64)), ("fid", 32), ("samples", 32), ("fid", 64), ("distance", 64)]
    )


def test_unreachable_server_falls_back_quickly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    caplog.set_level(logging.INFO)
    start = time.monotonic()
    use(WandbLogger(tmp_path, {}, "run", mode="online"))
    assert time.monotonic() - start < 10
    assert len(logged_runs(tmp_path)) == 1
    assert "does not answer" in caplog.text and "k" * 40 not in caplog.text


def test_failing_start_and_failing_log_do_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("disk on fire")

    logger = WandbLogger(tmp_path / "log", {}, "run", mode="offline")
    monkeypatch.setattr(logger.experiment, "log", fail)
    use(logger)
    assert caplog.text.count("disk on fire") == 1
    monkeypatch.setattr(wandb, "init", fail)
    use(WandbLogger(tmp_path / "start", {}, "run", mode="offline"))
    assert caplog.text.count("disk on fire") == 2


def test_environment_can_disable_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    use(WandbLogger(tmp_path, {}, "run"))
    use(WandbLogger(tmp_path, {}, "run", mode="disabled"))
    assert list(tmp_path.iterdir()) == []


def test_only_rank_zero_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = WandbLogger(tmp_path, {}, "run", mode="offline")
    use(logger)
    assert logger.experiment is None and list(tmp_path.iterdir()) == []


def test_key_is_found_in_environment_and_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = "https://wandb.example"
    assert not has_key(server)
    (tmp_path / "netrc").write_text("machine wandb.example login user password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert has_key(server) and not has_key("https://other.example")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert has_key("https://other.example")


def test_reachable_means_that_something_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert reachable(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert not reachable("http://127.0.0.1:1", timeout=1)
