"""The four places where defences attach: each is honoured for each player, in order, and nothing else changes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from securegan.data.batch import Batch
from securegan.models.gan.lightning_model import GAN
from securegan.models.ports import StepContext


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_every_port_of_a_player_takes_part_in_its_update(gan: Callable[..., GAN], batch: Batch, player: str) -> None:
    module = gan()
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

    ports = module.ports[player]
    ports.around.append(around)
    ports.gate.append(gate)
    ports.batch.append(lambda context: seen.append("batch"))
    ports.loss.append(loss)
    module.training_step(batch, 0)
    n = 5 + 8 if player == "discriminator" else 5  # the discriminator's gate withholds real images alone
    expected = ["batch", f"enter {player}"] if player == "discriminator" else [f"enter {player}", "batch"]
    assert seen == [*expected, f"loss of {n}", "leave"]
    assert float(module.step_figures[f"train/gated_share_{player}"]) == pytest.approx(3 / 8)


def test_more_discriminator_steps_see_fresh_outputs_beside_the_same_real_images(
    gan: Callable[..., GAN], batch: Batch
) -> None:
    module = gan(discriminator_steps=3)
    shown: list[tuple[Tensor, Tensor]] = []
    weights: list[Tensor] = []
    order: list[str] = []

    def watch(context: StepContext) -> None:
        order.append(context.player)
        if context.player == "discriminator":
            real, generated = context.inputs
            shown.append((real.images, generated.images))
            weights.append(module.discriminator.blocks[0][0].weight.detach().clone())  # type: ignore[index, union-attr]

    for player in ("discriminator", "generator"):
        module.ports[player].batch.append(watch)
    module.training_step(batch, 0)
    assert order == ["discriminator"] * 3 + ["generator"] and module.seen == 8
    assert all(torch.equal(real, batch.images) for real, _ in shown)
    for i, j in ((0, 1), (1, 2), (0, 2)):
        assert not torch.equal(shown[i][1], shown[j][1]) and not torch.equal(weights[i], weights[j])
    once = gan()
    once.ports["discriminator"].batch.append(lambda context: shown.append((batch.images, context.inputs[1].images)))
    once.training_step(batch, 0)
    torch.testing.assert_close(shown[2][1], shown[3][1])  # the last ones are those that the generator learns from


def test_a_gate_that_withholds_everything_leaves_one_image_and_says_so(gan: Callable[..., GAN], batch: Batch) -> None:
    module = gan()
    module.ports["discriminator"].gate.append(lambda images, labels: torch.zeros(len(images), dtype=torch.bool))
    module.training_step(batch, 0)
    assert float(module.step_figures["train/gated_share_discriminator"]) == 1.0


def test_a_step_counts_images_and_moves_both_players(gan: Callable[..., GAN], batch: Batch) -> None:
    module = gan()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.training_step(batch, 0)
    assert module.seen == int(module.images_seen) == 8
    moved = {name.split(".")[0] for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert moved >= {"generator", "discriminator", "ema"}
    assert all(parameter.requires_grad for parameter in module.discriminator.parameters())
