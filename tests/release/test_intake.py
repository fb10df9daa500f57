"""The gate for images from outside: its order, its false alarms, its limits, and what an adversary makes of it."""

import copy
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from securegan.attacks.shield import shielded
from securegan.configuration.allowlist import build
from securegan.configuration.compose import compose_checked
from securegan.data.folder import Folder
from securegan.data.module import ImageDataModule
from securegan.errors import UserError
from securegan.models.vae.lightning_model import VAE
from securegan.release import intake, intake_audit
from securegan.release.anomaly import Anomaly, Calibration, false_alarms, threshold_of
from securegan.release.intake import Gate, Limits, attach_gate, calibrated, data_of, open_gate
from securegan.release.intake_audit import audit_gate, audit_run
from securegan.release.intake_paths import judged
from securegan.runs.atomic import as_json
from securegan.runs.folder import RunFolder
from securegan.security.provenance import sidecar
from securegan.security.provenance.statement import ImageOrigin

Office = Any
RATE = 0.1


def png(pixels: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


@pytest.fixture(scope="module")
def watched(run: Path) -> tuple[Anomaly, Calibration]:
    return calibrated(run)


@pytest.fixture(scope="module")
def data(run: Path) -> ImageDataModule:
    return data_of(RunFolder.open(run))


@pytest.fixture(scope="module")
def digits(data: ImageDataModule) -> list[bytes]:
    """Clean images of the test split, as files."""
    images = data.chunk("test", 0, 100).images
    return [png(image[0].mul(255).round().byte().numpy()) for image in images]


@pytest.fixture(scope="module")
def noise() -> bytes:
    return png(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8))


@pytest.fixture(scope="module", params=["vae", "hybrid"])
def coded(
    request: pytest.FixtureRequest, make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Anomaly, Calibration]:
    """The gate of a run with an autoencoder."""
    return calibrated(make_run(tmp_path_factory.mktemp("coded") / "run", model=request.param))


def test_the_false_alarms_are_those_stated(watched: tuple[Anomaly, Calibration]) -> None:
    assert_false_alarms(watched[1])
    with pytest.raises(UserError, match="calibration images"):
        threshold_of(watched[1], 1e-4)


def assert_false_alarms(calibration: Calibration) -> None:
    for rate in (0.02, 0.1, 0.3):
        threshold = threshold_of(calibration, rate)
        refused, n = false_alarms(calibration, threshold)
        assert abs(refused / n - rate) < 3 * (rate * (1 - rate) * (1 / n + 1 / len(calibration.scores))) ** 0.5


def test_an_autoencoder_adds_a_statistic_and_no_false_alarms(
    coded: tuple[Anomaly, Calibration], data: ImageDataModule
) -> None:
    anomaly, calibration = coded
    assert {"mahalanobis", "reconstruction"} <= set(anomaly.statistics)
    assert_false_alarms(calibration)
    images, module = data.chunk("test", 0, 8).images, anomaly.module
    with shielded(module.victims()):
        found = anomaly.statistics["reconstruction"](images)
        given = [module.reconstruct(images, torch.full((8,), label)) for label in range(10)]
    errors = torch.stack([(one - images).flatten(1).norm(dim=1) for one in given]) / 32
    assert torch.allclose(found, errors.amin(0)) and not torch.allclose(found, errors[0])


def test_what_an_autoencoder_cannot_give_back_is_refused(data: ImageDataModule) -> None:
    """By its error alone: there is no detector and no class head."""
    widths = ["model.encoder_width=8", "model.decoder_width=8", "model.latent_dim=8"]
    module: VAE = build(compose_checked(["model=vae", *widths])[0].model, data.spec, 0)
    batch = data.chunk("train", 0, 256)
    optimizer = torch.optim.Adam(module.autoencoder.parameters(), 3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        (module.autoencoder(batch.images, batch.labels) - batch.images).square().mean().backward()
        optimizer.step()
    module.ema.averaged.load_state_dict(module.autoencoder.state_dict())
    anomaly = Anomaly(module, [], "weights")
    assert set(anomaly.statistics) == {"reconstruction"}
    threshold = threshold_of(anomaly.calibrate(data), RATE)
    clean = data.chunk("test", 0, 100).images
    assert anomaly.scores(clean).le(threshold).double().mean() > 0.75
    for kind, unusual in intake_audit._unusual(clean, 0).items():
        assert anomaly.scores(unusual).gt(threshold).double().mean() > 0.9, kind


def test_calibration_is_measured_once_and_needs_the_data_no_more(
    watched: tuple[Anomaly, Calibration], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "data_of", None)
    assert calibrated(run)[1] == watched[1]
    assert Calibration.load(run, "other weights") is None


def test_a_calibration_that_is_no_file_of_usual_size_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "intake.json"
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"intake\.json is damaged"):
        Calibration.load(tmp_path, "w")
    path.unlink()
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match=r"intake\.json is damaged \(more than"):
        Calibration.load(tmp_path, "w")


def test_a_damaged_calibration_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "intake.json").write_text('{"weights": 3}')
    with pytest.raises(UserError, match=r"intake\.json is damaged"):
        Calibration.load(tmp_path, "a")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "null", "true", '"1"', "[]", "[" * 10**5])
@pytest.mark.parametrize("place", ["scale", "scores", "held_out"])
def test_a_calibration_that_is_no_number_is_damaged(tmp_path: Path, place: str, number: str) -> None:
    values = {"scale": '{"a": [0.0, 1.0]}', "scores": "[0.5]", "held_out": "[0.25]"}
    values[place] = f'{{"a": [0.0, {number}]}}' if place == "scale" else f"[0.5, {number}]"
    text = ", ".join(f'"{name}": {value}' for name, value in values.items())
    (tmp_path / "intake.json").write_text(f'{{"weights": "w", {text}}}')
    with pytest.raises(UserError, match=r"intake\.json is damaged") as caught:
        Calibration.load(tmp_path, "w")
    assert "\n" not in str(caught.value)


def test_what_is_no_number_is_not_kept_as_a_calibration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="score of clean images is not a finite number for 1 of 3"):
        Calibration("w", {"a": (0.0, 1.0)}, [0.5, float("nan")], [0.25]).save(tmp_path)
    assert not (tmp_path / "intake.json").exists()


def test_what_is_no_number_is_null_in_json() -> None:
    found = {"score": float("nan"), "interval": (0.5, float("inf")), "name": "a.png"}
    assert as_json(found) == '{"score": null, "interval": [0.5, null], "name": "a.png"}'


def test_runs_that_ask_for_each_others_gates_are_refused(run: Path, tmp_path: Path) -> None:
    first, second = (Path(shutil.copytree(run, tmp_path / name)) for name in ("first", "second"))
    for each, asked in ((first, second), (second, first)):
        (each / "intake.json").unlink(missing_ok=True)
        config = OmegaConf.load(each / "config.yaml")
        target = {"_target_": "securegan.data.folder.Folder", "path": str(tmp_path), "intake": str(asked)}
        OmegaConf.update(config, "data", target, merge=False)
        OmegaConf.save(config, each / "config.yaml")
    with pytest.raises(UserError, match=r"data\.intake leads in a circle \(.*first -> .*second -> .*first\)"):
        calibrated(first)
    config = OmegaConf.load(first / "config.yaml")
    config.data.intake = str(tmp_path / "second" / ".." / "first")
    OmegaConf.save(config, first / "config.yaml")
    with pytest.raises(UserError, match="leads in a circle"):
        calibrated(first)


def test_clean_images_pass_and_noise_does_not(run: Path, digits: list[bytes], noise: bytes) -> None:
    gate = open_gate(run, false_positive_rate=RATE)
    found = [gate.check(f"{i}.png", content, None) for i, content in enumerate(digits)]
    assert sum(finding.accepted for finding in found) >= 80
    refused = gate.check("noise.png", noise, None)
    assert not refused.accepted and "unlike the images" in refused.reason and refused.score is not None


def test_an_archive_behind_an_image_changes_nothing(run: Path, noise: bytes, tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    path.write_bytes(noise + b"PK\5\6" + b"\0" * 18)
    assert zipfile.is_zipfile(path)
    (found,) = judged(open_gate(run, false_positive_rate=RATE), [path])
    assert not found.accepted


def test_a_path_without_an_image_is_a_mistake(run: Path, noise: bytes, tmp_path: Path) -> None:
    (tmp_path / ".hidden.png").write_bytes(noise)
    with pytest.raises(UserError, match="holds no image to judge"):
        list(judged(open_gate(run, false_positive_rate=RATE), [tmp_path]))


def test_a_broken_lzma_entry_is_refused_like_any_other(run: Path, noise: bytes, tmp_path: Path) -> None:
    path = tmp_path / "it.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", noise)
    data = bytearray(path.read_bytes())
    start = 30 + len("a.png")
    data[start + 4] = 255  # LZMA's properties
    path.write_bytes(data)
    (found,) = judged(open_gate(run, false_positive_rate=RATE), [path])
    assert not found.accepted and "cannot be read" in found.reason


def test_a_score_that_is_no_number_is_refused(watched: tuple[Anomaly, Calibration], digits: list[bytes]) -> None:
    assert not Gate((watched[0], float("nan"))).check("a.png", digits[0], None).accepted


def test_limits_are_those_of_the_gate(digits: list[bytes], office: Office) -> None:
    def reason(data: bytes, **limits: int) -> str:
        return Gate(None, trust=office.trust(), limits=Limits(**limits)).check("a.png", data, None).reason

    assert reason(digits[0]) == ""
    assert "more than 100 bytes" in reason(digits[0], bytes=100)
    assert "million pixels" in reason(digits[0], pixels=100)
    assert "not a PNG" in reason(b"GIF89a" + bytes(40))


def test_a_decompression_bomb_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch, office: Office) -> None:
    bomb = png(np.zeros((5000, 5000), dtype=np.uint8))
    assert len(bomb) < 100_000
    monkeypatch.setattr(Image.Image, "load", None)  # not a pixel is decoded
    finding = Gate(None, trust=office.trust()).check("bomb.png", bomb, None)
    assert not finding.accepted and "16 million pixels" in finding.reason


def test_signatures_come_first(office: Office, digits: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(None, trust=office.trust(), require_signed=True)
    signed = sidecar.sign(digits[0], "a.png", office.signer, ImageOrigin())
    assert gate.check("a.png", digits[0], signed).signature == "byte-exact"
    monkeypatch.setattr(intake, "decode", None)  # no decoder sees what is refused
    assert gate.check("a.png", digits[0], None).reason == "unsigned"
    assert gate.check("a.png", digits[1], signed).signature == "modified"
    assert gate.check("a.png", b"no image", signed).signature == "modified"
    assert gate.check("a.png", digits[0], signed.replace(b'"sig"', b'"sag"')).signature == "refused"


def test_a_sidecar_that_does_not_count_is_refused_where_none_is_needed(office: Office, digits: list[bytes]) -> None:
    gate = Gate(None, trust=office.trust())
    assert gate.check("a.png", digits[0], None).accepted
    signed = sidecar.sign(digits[0], "a.png", office.signer, ImageOrigin())
    assert not gate.check("a.png", digits[1], signed).accepted


def test_folders_and_archives(run: Path, office: Office, digits: list[bytes], noise: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, content in {"a.png": digits[0], "b.png": noise, "c.txt": b""}.items():
        (folder / name).write_bytes(content)
    (folder / "link.png").symlink_to(folder / "a.png")
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", digits[0])
        file.writestr("a.png.sg.json", sidecar.sign(digits[0], "a.png", office.signer, ImageOrigin()))
        file.writestr("../out.png", digits[0])
    gate = open_gate(run, false_positive_rate=RATE, trust=office.trust())
    found = {f.name.removeprefix(f"{tmp_path}/"): f for f in judged(gate, [folder, archive, folder / "a.png"])}
    assert found["images/a.png"].accepted and not found["images/b.png"].accepted
    assert "link" in found["images/link.png"].reason
    assert found["images.zip/a.png"].signature == "byte-exact"
    assert "leads out" in found["images.zip/../out.png"].reason


def test_unsigned_and_unusual_images_never_reach_a_training(
    make_run: Callable[..., Path], office: Office, digits: list[bytes], noise: bytes, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", signer=office.signer)
    folder = tmp_path / "images"
    folder.mkdir()
    for number, content in enumerate(digits[:60]):
        (folder / f"{number:02d}.png").write_bytes(content)
        if number < 50:
            signed = sidecar.sign(content, f"{number:02d}.png", office.signer, ImageOrigin())
            (folder / f"{number:02d}.png.sg.json").write_bytes(signed)
    (folder / "noise.png").write_bytes(noise)
    (folder / "noise.png.sg.json").write_bytes(sidecar.sign(noise, "noise.png", office.signer, ImageOrigin()))

    def made(*overrides: str) -> Folder:
        (config,) = compose_checked(["data=folder", f"data.path={folder}", "model=vae", "detector=none", *overrides])
        module: Folder = build(config.data, tmp_path / "cache", 0)
        attach_gate(module)
        module.setup()
        return module

    def reasons(module: Folder) -> list[str]:
        return sorted({file.reason.partition(" (")[0] for file in module.bad.skipped})

    assert not made().bad.skipped
    signed_only = made("data.require_signed=true")
    assert reasons(signed_only) == ["unsigned"] and len(signed_only.bad.skipped) == 10
    both = made("data.require_signed=true", f"data.intake={run}", f"data.false_positive_rate={RATE}")
    assert "noise.png" in {file.name for file in both.bad.skipped}
    assert reasons(both) == ["unlike the images of the run at the gate", "unsigned"]
    assert len({m.spec.digest for m in (made(), signed_only, both)}) == 3
    with pytest.raises(RuntimeError, match="no"):
        module = build(
            compose_checked(["data=folder", f"data.path={folder}", "data.require_signed=true"])[0].data, tmp_path, 0
        )
        module.setup()


def test_the_audit_of_the_gate_attacks_it(
    watched: tuple[Anomaly, Calibration], data: ImageDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A larger radius never lets fewer through, who knows the gate is no weaker than who does not, and without bounds
    everything that should be refused gets through: an audit that said otherwise would be a weak attack.
    """
    anomaly, calibration = watched
    threshold = threshold_of(calibration, RATE)
    monkeypatch.setattr(intake_audit, "STEPS", 25)
    own = anomaly, threshold
    rows = {
        (row.inputs, row.adversary, row.eps): row.share
        for row in audit_gate(anomaly, threshold, data, images=4, eps=[0.05, 1.0], seed=0, surrogate=own)
    }
    for kind in ("noise", "inverted", "shuffled"):
        small, whole = (rows[kind, "through the gate", eps] for eps in (0.05, 1.0))
        assert rows[kind, "none", 0.0] <= small <= whole == 1
        transferred = [rows[kind, "through another run's gate", eps] for eps in (0.05, 1.0)]
        assert transferred == [small, whole]  # the other is the same here
    assert rows["clean", "none", 0.0] > 0.5


def test_a_surrogate_reads_images_of_the_same_size(
    watched: tuple[Anomaly, Calibration], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copy.copy(watched[0])
    other.module = SimpleNamespace(spec=replace(watched[0].module.spec, channels=3))  # type: ignore[assignment]
    found = {run: watched, run / "other": (other, watched[1])}
    monkeypatch.setattr(intake_audit, "calibrated", lambda path, trust: found[path])
    with pytest.raises(UserError, match="other cannot be the surrogate: it reads images of 3x32x32, not of 1x32x32"):
        audit_run(run, RATE, surrogate=run / "other")


def test_the_score_has_a_gradient_and_leaves_no_trace(watched: tuple[Anomaly, Calibration]) -> None:
    anomaly = watched[0]
    before = {name: value.clone() for name, value in anomaly.module.state_dict().items()}
    x = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    with shielded(anomaly.module.victims()):
        score = anomaly.score(x)
        (gradient,) = torch.autograd.grad(score.sum(), x)
    assert gradient.abs().flatten(1).sum(1).gt(0).all()
    assert torch.allclose(anomaly.scores(x), score.detach())
    assert all(torch.equal(value, before[name]) for name, value in anomaly.module.state_dict().items())
    assert json.dumps(sorted(anomaly.statistics)) == '["mahalanobis", "squeezing"]'
