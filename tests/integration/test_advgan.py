"""attack=advgan on a trained run: its generators learn from the split that is asked for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from securegan.attacks.evasion.advgan import AdvGAN
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import Surface
from securegan.experiment import Experiment


def test_a_trained_run_is_attacked_by_generators_that_learnt_from_other_images(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    prepare = AdvGAN.prepare

    def watched(attack: AdvGAN, surface: Surface, supplies: Supplies) -> None:
        prepare(attack, surface, supplies)
        seen[surface.name] = attack._known[surface.name][:2]

    monkeypatch.setattr(AdvGAN, "prepare", watched)
    asked = ["attack=advgan", "attack.images=40", "attack.split=calibrate", "attack.epochs=2", "attack.eps=0.3"]
    asked += ["metrics.test_attack_images=16", "metrics.check_images=4"]
    with Experiment.attack_again(finished, tmp_path / "out", asked) as experiment:
        experiment.test()
        experiment.report()
        there = experiment.data.chunk("calibrate", 0, 40)
    results: dict[str, Any] = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(results["protocol"]["attack"]["threat_models"]) == set(seen) == {"label", "authenticity"}
    assert torch.equal(seen["label"][0], there.images) and torch.equal(seen["label"][1], there.labels)
    images, real = seen["authenticity"]
    assert torch.equal(images[real == 1], there.images) and int((real == 0).sum()) == len(there.images)
    for surface in seen:
        assert 0 <= results["test"]["metrics"][f"robustness/attack_success_{surface}"] <= 1
        assert 1 < results["test"]["metrics"][f"robustness/mean_queries_{surface}"] <= 2
