"""A loss that is not a number, or explodes, ends the run by name; the terms of a loss add up to it."""

import math
from collections.abc import Callable

import pytest
import torch

from securegan.data.batch import Batch
from securegan.errors import UserError
from securegan.models.base import EXPLODED
from securegan.models.gan.lightning_model import GAN
from securegan.models.ports import StepContext


def test_the_terms_of_each_player_add_up_to_its_loss(gan: Callable[..., GAN], batch: Batch) -> None:
    module = gan(r1=0.5, r2=0.25, gradient_penalty=2.0)
    module.ports["discriminator"].loss.append(lambda context: torch.tensor(0.125))
    module.training_step(batch, 0)
    terms = {
        "discriminator": ["adversarial", "class", "defences", "r1", "r2", "gradient_penalty"],
        "generator": ["adversarial", "class"],
    }
    for player, names in terms.items():
        prefix = f"train/loss_{player}"
        logged = {key: value.item() for key, value in module.step_figures.items() if key.startswith(f"{prefix}_")}
        assert list(logged) == [f"{prefix}_{name}" for name in names]
        assert sum(logged.values()) == pytest.approx(module.step_figures[prefix].item(), rel=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -2 * EXPLODED, 2 * EXPLODED])
def test_the_message_names_player_term_and_step(gan: Callable[..., GAN], batch: Batch, value: float) -> None:
    module = gan()

    def late(context: StepContext) -> torch.Tensor:
        return torch.tensor(value if context.images_seen == 16 else 0.0)

    module.ports["generator"].loss.append(late)
    for step in range(3):
        module.step_figures = {}
        module.training_step(batch, step)
        figures = {key: figure.item() for key, figure in module.step_figures.items()}
        if step < 2:
            module.check_finite(figures)
    expected = r"^the generator's defences loss \(train/loss_generator_defences\) became \S+ in step 3 \(24 images\)"
    with pytest.raises(UserError, match=f"{expected}.*ends here, before its first point was saved"):
        module.check_finite(figures)


def test_large_figures_that_are_no_losses_end_nothing(gan: Callable[..., GAN]) -> None:
    gan().check_finite({"train/loss_generator": -0.9 * EXPLODED, "train/scale": 2 * EXPLODED})
    with pytest.raises(UserError, match=r"^train/scale became inf"):
        gan().check_finite({"train/scale": math.inf})
