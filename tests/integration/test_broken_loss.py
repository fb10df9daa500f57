"""A run whose loss explodes ends in one sentence, and its last saved point can be continued."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from securegan.data.batch import Batch
from securegan.errors import UserError
from securegan.experiment import Experiment
from securegan.models.gan.lightning_model import GAN
from securegan.runs.checkpoints import verified


def test_the_last_saved_point_is_kept(
    tmp_path: Path,
    small_settings: list[str],
    run_in_process: Callable[..., Experiment],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = GAN.training_step

    def exploding(module: GAN, batch: Batch, batch_idx: int) -> None:
        step(module, batch, batch_idx)
        if module.trainer.current_epoch == 1:
            module.step_figures["train/loss_discriminator_adversarial"] += 1e9

    monkeypatch.setattr(GAN, "training_step", exploding)
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"the discriminator's adversarial loss \(.*\) became 1e\+09 in step"):
        run_in_process(folder, *small_settings, "trainer.max_epochs=3")
    _, entry = verified(folder / "checkpoints", "last")
    assert entry["epoch"] == 1
    monkeypatch.setattr(GAN, "training_step", step)
    with Experiment.resume(folder) as experiment:
        experiment.fit()
    assert json.loads((folder / "checkpoints" / "index.json").read_text())["last"]["epoch"] == 3
