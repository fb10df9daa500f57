"""The four places where defences attach: each is honoured for each player, in order, and nothing else changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from securegan.data.batch import Batch, DataSpec
from securegan.models.gan.lightning_model import GAN
from securegan.models.ports import StepContext


@pytest.fixture
def gan(monkeypatch: pytest.MonkeyPatch) -> GAN:
    spec = DataSpec("test", 1, 32, 3, ("a", "b", "c"), 0.1, "d")
    module = GAN(spec, 0, latent_dim=8, generator_width=4, discriminator_width=4, class_width=4)
    optimizers = module.configure_optimizers()
    monkeypatch.setattr(GAN, "trainer", property(lambda self: SimpleNamespace(world_size=1)))
    monkeypatch.setattr(GAN, "global_rank", property(lambda self: 0))
    module.optimizers = lambda: optimizers  # type: ignore[method-assign, assignment, return-value]
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, assignment, misc]
    module.augmented = lambda batch: batch  # type: ignore[method-assign]
    return module


@pytest.fixture
def batch() -> Batch:
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (8,), generator=g)
    return Batch(torch.rand(8, 1, 32, 32, generator=g), labels, torch.arange(8))


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_every_port_of_a_player_takes_part_in_its_update(gan: GAN, batch: Batch, player: str) -> None:
    seen: list[str] = []

    @contextmanager
    def around(context: StepContext) -> Iterator[None]:
        seen.append(f"enter {context.player}")
        yield
        seen.append("leave")

    def gate(images: Tensor, labels: Tensor | None) -> Tensor:
        return torch.arange(len(images)) < 5

    def loss(context: StepContext) -> Tensor:
        assert context.output is not None
        seen.append(f"loss of {sum(len(part.images) for part in context.inputs)}")
        return context.output.authenticity.square().mean()

    ports = gan.ports[player]
    ports.around.append(around)
    ports.gate.append(gate)
    ports.batch.append(lambda context: seen.append("batch"))
    ports.loss.append(loss)
    gan.training_step(batch, 0)
    n = 5 + 8 if player == "discriminator" else 5  # the discriminator's gate withholds real images alone
    expected = ["batch", f"enter {player}"] if player == "discriminator" else [f"enter {player}", "batch"]
    assert seen == [*expected, f"loss of {n}", "leave"]
    assert float(gan.step_figures[f"train/gated_share_{player}"]) == pytest.approx(3 / 8)


def test_a_gate_that_withholds_everything_leaves_one_image_and_says_so(gan: GAN, batch: Batch) -> None:
    gan.ports["discriminator"].gate.append(lambda images, labels: torch.zeros(len(images), dtype=torch.bool))
    gan.training_step(batch, 0)
    assert float(gan.step_figures["train/gated_share_discriminator"]) == 1.0


def test_a_step_counts_images_and_moves_both_players(gan: GAN, batch: Batch) -> None:
    before = {name: value.clone() for name, value in gan.state_dict().items()}
    gan.training_step(batch, 0)
    assert gan.seen == int(gan.images_seen) == 8
    moved = {name.split(".")[0] for name, value in gan.state_dict().items() if not torch.equal(value, before[name])}
    assert moved >= {"generator", "discriminator", "ema"}
    assert all(parameter.requires_grad for parameter in gan.discriminator.parameters())
