"""The hybrid: one update moves all players, reconstructions improve, and every place of a defence is honoured."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from securegan.data.batch import Batch
from securegan.errors import ConfigError
from securegan.models.gan.lightning_model import GAN
from securegan.models.hybrid.lightning_model import Hybrid
from securegan.models.ports import Inputs, StepContext

Make = Callable[..., Hybrid]


def test_its_own_settings_and_the_gans_are_both_checked(hybrid: Make) -> None:
    with pytest.raises(ConfigError, match="feature_block=3"):
        hybrid(feature_block=3)
    with pytest.raises(ConfigError, match="shared_blocks=9"):
        hybrid(shared_blocks=9)


def test_it_starts_as_the_gan_of_its_seed(hybrid: Make, gan: Callable[..., GAN]) -> None:
    one, other = hybrid(), gan()
    z, y = one.latents(3, "test")
    assert torch.equal(one.generate(z, y), other.generate(z, y))


def test_a_step_moves_every_player_and_logs_their_terms(hybrid: Make, batch: Batch) -> None:
    module = hybrid(pixel_weight=0.5)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.training_step(batch, 0)
    moved = {name.split(".")[0] for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert moved >= {"generator", "discriminator", "autoencoder", "ema"}
    encoder = [name for name in before if name.startswith("autoencoder.encoder") and name.endswith("weight")]
    assert all(not torch.equal(module.state_dict()[name], before[name]) for name in encoder)
    terms = {f"train/loss_autoencoder_{name}" for name in ("kl", "reconstruction", "pixels")}
    assert terms <= set(module.step_figures)
    total = sum(float(module.step_figures[name]) for name in terms)
    assert float(module.step_figures["train/loss_autoencoder"]) == pytest.approx(total, rel=1e-5)
    assert all(parameter.requires_grad for parameter in module.discriminator.parameters())


def test_the_discriminator_does_not_learn_from_reconstructions(hybrid: Make, batch: Batch) -> None:
    states = []
    for weight in (0.0, 5.0):
        module = hybrid(reconstruction_weight=weight, kl_weight=0.0)
        module.training_step(batch, 0)
        states.append({name: value.clone() for name, value in module.discriminator.state_dict().items()})
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_reconstructions_get_nearer(hybrid: Make, batch: Batch) -> None:
    module = hybrid(pixel_weight=1.0, kl_weight=0.0, lr_encoder=2e-3, lr_generator=2e-3)
    smooth = torch.nn.functional.interpolate(batch.images[:, :, :2, :2], size=32, mode="bilinear")
    first = last = 0.0
    for step in range(40):
        module.training_step(batch._replace(images=smooth), step)
        last = float(module.step_figures["train/loss_autoencoder_pixels"])
        first = first or last
    assert last < 0.8 * first


def test_every_port_of_the_autoencoder_takes_part_in_its_update(hybrid: Make, batch: Batch) -> None:
    module = hybrid()
    seen: list[str] = []

    @contextmanager
    def around(context: StepContext) -> Iterator[None]:
        seen.append(f"enter {context.player}")
        yield
        seen.append("leave")

    def twins(context: StepContext) -> None:
        (clean,) = context.inputs
        context.inputs.append(Inputs(clean.images[:2], clean.labels[:2], real=True, target=clean.images[:2]))  # type: ignore[index]

    def loss(context: StepContext) -> Tensor:
        seen.append(f"loss of {len(context.images)}")
        return module.autoencoder.encoder.head.weight.square().mean()

    ports = module.ports["autoencoder"]
    ports.gate.append(lambda images, labels: torch.arange(len(images)) < 5)
    ports.batch.append(twins)
    ports.around.append(around)
    ports.loss.append(loss)
    module.training_step(batch, 0)
    assert seen == ["enter autoencoder", "loss of 7", "leave"]
    assert float(module.step_figures["train/gated_share_autoencoder"]) == pytest.approx(3 / 8)
    assert float(module.step_figures["train/loss_autoencoder_defences"]) > 0


def test_two_steps_are_the_same_again(hybrid: Make, batch: Batch) -> None:
    runs = []
    for _ in range(2):
        module = hybrid()
        for step in range(2):
            module.training_step(batch, step)
        runs.append(module.state_dict())
    assert all(torch.equal(value, runs[1][name]) for name, value in runs[0].items())
