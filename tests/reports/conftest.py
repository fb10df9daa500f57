"""Run folders as a run leaves them, made up: whole ones, and ones that lack parts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

SURFACES = ("label", "authenticity", "latent")


def metrics(value: float) -> dict[str, float | None]:
    figures: dict[str, float | None] = {
        "train/loss_discriminator": 1.3,
        "train/loss_generator": 0.9,
        "quality/fid_judge": 12.3,
        "quality/is_judge": 7.1,
        "quality/fidelity": 0.61,
        "robustness/clean_accuracy_label": 0.97,
        "robustness/system_attack_success_label_nonadaptive": 0.1,
        "robustness/attack_success_authenticity_real_to_fake": 0.5,
        "detection/auroc": 0.93,
        "detection/accuracy": 0.88,
        "detection/recall": 0.8,
        "detection/tpr_at_5fpr": 0.8,
        "detection/false_positive_rate": 0.05,
    }
    for surface in SURFACES:
        figures[f"robustness/attack_success_{surface}"] = value
        figures[f"robustness/random_success_{surface}"] = 0.02
    return figures


def full_metrics() -> dict[str, Any]:
    figures = metrics(0.642)
    rates = [key for key in figures if key.startswith("robustness/")]
    threat = {"norm": "linf", "eps": 0.125, "space": "pixels", "knowledge": "white box", "adaptive": False}
    return {
        "rows": [
            {"epoch": e, "images_seen": 1280 * e, "split": "validate", "metrics": metrics(0.9 - 0.02 * e)}
            for e in range(1, 6)
        ],
        "test": {
            "checkpoint": "best",
            "epoch": 4,
            "split": "test",
            "metrics": figures,
            "n": dict.fromkeys(rates, 352),
            "interval": {"robustness/attack_success_label": [0.591, 0.69]},
        },
        "protocol": {
            "attack": {
                "name": "pgd",
                "norm": "linf",
                "eps": 0.125,
                "steps": 20,
                "restarts": 5,
                "epochs": {"name": "pgd", "steps": 10, "restarts": 1},
                "objectives": ["ce"],
                "threat_models": {name: {**threat, "eps": 1.0} if name == "latent" else threat for name in SURFACES},
            },
            "quality": {"digest": "ab12cd34ef", "n_real": 360, "n_fake": 1000, "floor_fid_judge": 1.21},
            "surfaces": {name: f"the {name} decision is right" for name in SURFACES},
            "seed": 7,
            "data": {"name": "digits", "class_names": ["zero", "one"], "digest": "5f2a77c0"},
        },
        "checks": [
            {"name": "noise_weaker_than_gradient", "passed": True, "detail": "0.03 <= 0.64", "surface": "label"}
        ],
        "seconds": {"train": 101.0, "evaluate": 40.0},
    }


def write_run(folder: Path, content: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def content() -> dict[str, Any]:
    """A whole metrics.json, for a test to change."""
    return full_metrics()


@pytest.fixture(name="write_run")
def write_run_fixture() -> Callable[[Path, dict[str, Any]], Path]:
    """Writes a folder with nothing but the given metrics.json."""
    return write_run


@pytest.fixture
def full_run(tmp_path: Path) -> Path:
    """Everything a run can leave."""
    folder = write_run(tmp_path / "full", full_metrics())
    source = np.random.default_rng(0)

    def distances(shift: float, n: int) -> np.ndarray:
        return (source.gamma(9, 4, n) + shift).astype(np.float32)

    np.savez(
        folder / "arrays.npz",
        fidelity_clean=source.beta(6, 4, 1000).astype(np.float32),
        fidelity_latent_attack=source.beta(4, 6, 1000).astype(np.float32),
        fidelity_real=source.beta(6, 4, 360).astype(np.float32),
        distance_generated=distances(0, 1000),
        distance_real=distances(0, 360),
        distance_adversarial=distances(40, 226),
        distance_noise=distances(5, 360),
        threshold=np.float32(60),
    )
    examples: dict[str, np.ndarray] = {
        "samples": source.random((64, 1, 8, 8), dtype=np.float32),
        "samples_labels": np.arange(64) % 2,
        "paths": source.random((6, 8, 1, 8, 8), dtype=np.float32),
    }
    for surface in SURFACES:
        clean = source.random((4, 1, 8, 8), dtype=np.float32)
        examples |= {f"{surface}_clean": clean, f"{surface}_adversarial": np.clip(clean + 0.1, 0, 1)}
        examples |= {f"{surface}_before": np.array(["zero"] * 4), f"{surface}_after": np.array(["one"] * 4)}
    np.savez(folder / "examples.npz", **examples)  # type: ignore[arg-type]
    config = {
        "seed": 7,
        "model": {"_target_": "securegan.models.gan.lightning_model.GAN"},
        "attack": {"_target_": "securegan.attacks.evasion.pgd.PGD"},
        "detector": {"mahalanobis": {"false_positive_rate": 0.05}},
        "security": {"passphrase": "open sesame"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {
        "command": "python -m securegan.run attack=pgd security.passphrase=sesame",
        "versions": {"torch": "2"},
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "steps.csv").write_text("images_seen,train/loss_generator\n128,0.9\n256,0.8\n384,0")
    return folder


@pytest.fixture
def quiet_run(tmp_path: Path) -> Path:
    """A run with attack=none, defense=none and detector=none."""
    content = full_metrics()
    kept = ("train/", "quality/")
    for holder in [*content["rows"], content["test"]]:
        holder["metrics"] = {key: value for key, value in holder["metrics"].items() if key.startswith(kept)}
    content |= {"checks": [], "protocol": {"seed": 7, "data": {"name": "digits"}, "attack": None}}
    folder = write_run(tmp_path / "quiet", content)
    (folder / "config.yaml").write_text(yaml.safe_dump({"attack": None, "defense": {}, "detector": None}))
    np.savez(folder / "arrays.npz", fidelity_clean=np.linspace(0, 1, 50, dtype=np.float32))
    return folder
