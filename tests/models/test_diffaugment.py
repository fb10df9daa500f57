"""Differentiable augmentation: identity, gradients, whole pixels, statistics, and a probability that adapts."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from securegan.data.batch import Batch
from securegan.errors import ConfigError
from securegan.models.gan.diffaugment import (
    TRANSFORMS,
    AdaptiveProbability,
    Transform,
    color,
    cutout,
    diffaugment,
    translation,
)
from securegan.models.gan.lightning_model import GAN
from securegan.models.ports import StepContext

ALL: tuple[Transform, ...] = ("color", "translation", "cutout")


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


IMAGES = noise(40, 3, 16, 24)
DRAWS = noise(40, 3)


def test_a_probability_of_zero_is_the_identity_and_of_one_changes_every_image() -> None:
    assert torch.equal(diffaugment(IMAGES, ALL, 0.0, 0, "a"), IMAGES)
    assert diffaugment(IMAGES, (), 1.0, 0, "a") is IMAGES
    changed = diffaugment(IMAGES, ALL, 1.0, 0, "a")
    assert (changed != IMAGES).flatten(1).any(1).all()
    assert torch.equal(changed, diffaugment(IMAGES, ALL, 1.0, 0, "a"))
    assert not torch.equal(changed, diffaugment(IMAGES, ALL, 1.0, 1, "a"))


def test_the_probability_is_the_share_of_images_changed() -> None:
    images = noise(2000, 1, 8, 8)
    changed = (diffaugment(images, ["cutout"], 0.3, 0, "a") != images).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_an_image_is_changed_the_same_whatever_lies_beside_it() -> None:
    for transform in TRANSFORMS.values():
        assert torch.allclose(transform(IMAGES, DRAWS)[7:8], transform(IMAGES[7:8], DRAWS[7:8]), atol=1e-6)


def test_gradients_reach_every_pixel_that_is_still_seen() -> None:
    x = IMAGES.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(diffaugment(x, ("translation", "cutout"), 1.0, 0, "a").square().sum(), x)
    assert 0.5 < (gradient != 0).float().mean().item() < 0.95
    (gradient,) = torch.autograd.grad(diffaugment(x, ALL, 1.0, 0, "a").square().sum(), x)
    assert (gradient != 0).flatten(1).any(1).all()


def test_a_shift_keeps_pixels_and_fills_with_grey() -> None:
    shifted = translation(IMAGES, DRAWS)
    for before, after, (down, right) in zip(IMAGES, shifted, DRAWS[:, :2].tolist(), strict=True):
        dy, dx = int(down * 5) - 2, int(right * 7) - 3  # an eighth of 16 and of 24
        expected = torch.full_like(before, 0.5)
        expected[:, max(dy, 0) : 16 + min(dy, 0), max(dx, 0) : 24 + min(dx, 0)] = before[
            :, max(-dy, 0) : 16 + min(-dy, 0), max(-dx, 0) : 24 + min(-dx, 0)
        ]
        assert torch.equal(after, expected)


def test_shifts_reach_an_eighth_either_way_and_no_way_more_than_the_other() -> None:
    draws = noise(4000, 3)
    ramp = torch.arange(100, 116.0).view(1, 1, 16, 1).expand(4000, 1, 16, 16)
    offsets = 108 - translation(ramp, draws)[:, 0, 8, 8]
    assert offsets.unique().tolist() == [-2, -1, 0, 1, 2] and abs(offsets.mean()) < 0.1


def test_a_cut_greys_a_square_of_half_the_side() -> None:
    images = torch.zeros(3, 2, 16, 16)
    cut = cutout(images, torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.0], [0.999, 0.999, 0.0]]))
    assert (cut == 0.5).sum((2, 3)).tolist() == [[64, 64], [32, 32], [25, 25]]  # whole, and over an edge
    assert (cut[0, :, 4:12, 4:12] == 0.5).all()


def test_colour_moves_the_mean_and_the_spread_as_drawn() -> None:
    unchanged = torch.tensor([[0.5, 0.5, 0.5]]).expand(40, 3)
    assert torch.allclose(color(IMAGES, unchanged), IMAGES, atol=1e-6)
    brighter = color(IMAGES, torch.tensor([[1.0, 0.5, 0.5]]).expand(40, 3))
    assert torch.allclose(brighter, IMAGES + 0.25, atol=1e-6)
    grey = color(IMAGES, torch.tensor([[0.5, 0.0, 0.5]]).expand(40, 3))
    assert torch.allclose(grey, IMAGES.mean(1, keepdim=True).expand_as(IMAGES), atol=1e-6)
    flat = color(IMAGES, torch.tensor([[0.5, 0.5, 0.0]]).expand(40, 3))
    assert torch.allclose(flat.std((1, 2, 3)), 0.5 * IMAGES.std((1, 2, 3)), rtol=1e-4)
    assert torch.allclose(
        color(IMAGES, DRAWS).mean((1, 2, 3)) - IMAGES.mean((1, 2, 3)), (DRAWS[:, 0] - 0.5) / 2, atol=1e-5
    )


def test_the_probability_rises_while_the_discriminator_is_too_sure() -> None:
    ada = AdaptiveProbability(0.6, images=1000)
    sure, unsure = torch.full((64,), 3.0), torch.tensor([1.0, -1.0]).repeat(32)
    for _ in range(3):
        ada.observe(sure)
    assert ada.probability == 0  # the window is not full
    ada.observe(sure)
    assert ada.probability.item() == pytest.approx(0.256)
    for _ in range(2):
        ada.observe(torch.full((256,), 3.0))
    saved = {name: value.clone() for name, value in ada.state_dict().items()}
    for _ in range(20):
        ada.observe(torch.full((256,), 3.0))
    assert ada.probability == 1
    ada.load_state_dict(saved)
    for _ in range(4):
        ada.observe(unsure)
    assert ada.probability.item() == pytest.approx(0.512)


def test_both_players_learn_through_the_transforms_and_hooks_see_plain_images(
    gan: Callable[..., GAN], batch: Batch
) -> None:
    module = gan(diffaugment=ALL, ada_target=0.6, ada_images=8)
    module.ada.probability.fill_(1.0)  # type: ignore[union-attr]
    seen: list[tuple[Tensor, Tensor]] = []

    def hook(context: StepContext) -> None:
        assert context.output is not None
        module.eval()
        plain = module.discriminate(context.images.detach()).authenticity
        module.train()
        seen.append((context.output.authenticity.detach(), plain.detach()))

    for player in ("discriminator", "generator"):
        module.ports[player].loss.append(hook)
    before = [p.clone() for p in module.generator.parameters()]
    module.training_step(batch, 0)
    assert any(not torch.equal(p, q) for p, q in zip(module.generator.parameters(), before, strict=True))
    assert len(seen) == 2 and all(torch.allclose(one, other, atol=1e-6) for one, other in seen)
    assert module.step_figures["train/ada_probability"] == 1
    assert "ada.probability" in module.state_dict() and not any(key.startswith("ada") for key in gan().state_dict())


def test_an_adaptive_probability_of_nothing_is_refused(gan: Callable[..., GAN]) -> None:
    with pytest.raises(ConfigError, match=r"model\.ada_target=0\.6 is not allowed"):
        gan(ada_target=0.6)
