"""The job with several options of a group, with none, and on unlabelled images: each is run, not only composed."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from securegan.errors import UserError
from securegan.experiment import Experiment

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, small_settings: list[str], run_in_process: Callable[..., Experiment]) -> Run:
    """``run(*overrides)``: the results of a run of two epochs in ``tmp_path/run``; groups given replace small ones."""

    def start(*overrides: str) -> dict[str, Any]:
        chosen = dict(override.split("=", 1) for override in overrides)
        left_out = tuple(f"{group}." for group, option in chosen.items() if option == "none")
        kept = [s for s in small_settings if s.partition("=")[0] not in chosen and not s.startswith(left_out or "-")]
        if "model" in chosen:
            kept = [setting for setting in kept if not setting.startswith("model.")]
        run_in_process(tmp_path / "run", *kept, *overrides, "trainer.max_epochs=2")
        results: dict[str, Any] = json.loads((tmp_path / "run" / "metrics.json").read_text())
        return results

    return start


def steps(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "run" / "steps.csv").open()))


def test_two_defences_and_two_loggers_both_take_effect(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run("defense=[adversarial_training,gradient_penalty]", "logger=[csv,wandb]")
    last = steps(tmp_path)[-1]
    assert float(last["train/gradient_penalty"]) > 0 and float(last["train/twin_radius"]) == pytest.approx(
        1.5 * 32 / 255
    )
    assert list((tmp_path / "run").glob("wandb/offline-run-*/*.wandb"))


def test_without_attack_defence_and_detector_quality_is_what_is_measured(run: Run) -> None:
    results = run("attack=none", "defense=none", "detector=none")
    parts = {key.partition("/")[0] for key in results["test"]["metrics"]}
    assert parts == {"quality"} and not results["checks"]


VAE = ["model=vae", "model.encoder_width=8", "model.decoder_width=8"]


def test_a_vae_is_attacked_defended_watched_and_reported_like_the_gan(run: Run, tmp_path: Path) -> None:
    results = run(*VAE, "logger=csv")
    metrics = results["test"]["metrics"]
    for surface in ("reconstruction", "latent"):  # too short a training for much to be right
        assert 0 <= metrics[f"robustness/robust_accuracy_{surface}"] <= metrics[f"robustness/clean_accuracy_{surface}"]
    assert metrics["quality/reconstruction_ssim"] > 0 and "detection/false_positive_rate" in metrics
    assert {check["surface"] for check in results["checks"]} == {"reconstruction", "latent"}
    assert float(steps(tmp_path)[-1]["train/twin_radius"]) == pytest.approx(1.5 * 32 / 255)
    assert (tmp_path / "run" / "figures" / "reconstructions.png").is_file()


def test_a_hybrid_has_every_surface_and_trains_all_its_players_against_attacks(run: Run, tmp_path: Path) -> None:
    widths = [f"model.{part}_width=8" for part in ("generator", "discriminator", "class", "encoder")]
    results = run("model=hybrid", *widths, "logger=csv")
    for surface in ("label", "authenticity", "reconstruction", "latent"):
        assert f"robustness/robust_accuracy_{surface}" in results["test"]["metrics"]
    last = steps(tmp_path)[-1]
    assert float(last["train/twin_radius"]) > 0 and float(last["train/loss_autoencoder"]) > 0


def test_unlabelled_images_in_a_flat_folder_with_a_gate(run: Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(200):
        pixels = generator.integers(0, 255, (2, 2, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(flat / f"{number}.png")
    results = run("data=folder", f"data.path={flat}", "data.batch_size=16", "detector.mahalanobis.gate=true")
    surfaces = {key.rpartition("_")[2] for key in results["test"]["metrics"] if "attack_success" in key}
    assert {"authenticity", "latent"} <= surfaces and "label" not in surfaces
    assert "quality/diversity_within_classes" not in results["test"]["metrics"]
    assert results["protocol"]["data"]["splits"]["train"] == 120
    shares = [row["train/gated_share_discriminator"] for row in steps(tmp_path)]
    assert len(shares) == len(results["rows"]) * (120 // 16) and all(0 <= float(share) < 1 for share in shares)


def test_too_few_images_to_calibrate_the_detector_are_refused_before_training(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs at least 19 calibration images, and there are 10"):
        run("data.max_images=100")
