"""A run whose loss explodes ends in one sentence, and its last saved point can be continued."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from securegan.data.batch import Batch
from securegan.errors import UserError
from securegan.experiment import Experiment
from securegan.models.base import GenerativeModule
from securegan.models.gan.lightning_model import GAN
from securegan.models.hybrid.lightning_model import Hybrid
from securegan.models.vae.lightning_model import VAE
from securegan.models.vae.mixture import LatentMixture
from securegan.runs.checkpoints import verified
from securegan.runs.folder import RunFolder

WIDTHS = {
    GAN: ("generator", "discriminator", "class"),
    VAE: ("encoder", "decoder"),
    Hybrid: ("generator", "discriminator", "class", "encoder"),
}


@pytest.mark.parametrize(
    ("model", "term"),
    [(GAN, "discriminator_adversarial"), (VAE, "autoencoder_distortion"), (Hybrid, "autoencoder_reconstruction")],
)
def test_the_last_saved_point_is_kept(
    tmp_path: Path,
    small_settings: list[str],
    run_in_process: Callable[..., Experiment],
    monkeypatch: pytest.MonkeyPatch,
    model: type[GenerativeModule],
    term: str,
) -> None:
    """And holds a mixture of its own epoch's codes, though no evaluation was due."""
    step = model.training_step

    def exploding(module: GenerativeModule, batch: Batch, batch_idx: int) -> None:
        step(module, batch, batch_idx)
        if module.trainer.current_epoch == 1:
            module.step_figures[f"train/loss_{term}"] += 1e9

    monkeypatch.setattr(model, "training_step", exploding)
    folder = tmp_path / "run"
    settings = [s for s in small_settings if not s.startswith(("model.", "defense."))]
    settings += [f"model={model.__name__.lower()}", *(f"model.{part}_width=8" for part in WIDTHS[model])]
    settings += ["detector=none", "defense=none", "attack=none", "metrics.every_n_epochs=3", "trainer.max_epochs=3"]
    player, _, named = term.partition("_")
    expected = (
        rf"the {player}'s {named} loss \(.*\) became .*: the run ends here, the point saved after epoch 1 is kept"
    )
    with pytest.raises(UserError, match=expected):
        run_in_process(folder, *[s for s in settings if not s.startswith("attack.")])
    path, entry = verified(RunFolder(folder), "last")
    assert entry["epoch"] == 1
    state = torch.load(path, weights_only=True)["state_dict"]
    if model is VAE:
        fresh = LatentMixture(*state["mixture.means"].shape)
        assert not torch.equal(state["mixture.means"], fresh.means)
    monkeypatch.setattr(model, "training_step", step)
    with Experiment.resume(folder) as experiment:
        experiment.fit()
    assert json.loads((folder / "checkpoints" / "index.json").read_text())["last"]["epoch"] == 3
