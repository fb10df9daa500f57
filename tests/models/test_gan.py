"""The GAN: shapes, sizes, what an update touches, and randomness as a function."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from securegan.data.batch import Batch, DataSpec
from securegan.errors import ConfigError
from securegan.models.ema import GeneratorEMA
from securegan.models.gan.lightning_model import GAN
from securegan.randomness import integers


def spec(size: int = 32, classes: int = 3, channels: int = 1) -> DataSpec:
    return DataSpec("test", channels, size, classes, tuple("abcdefghij"[:classes]), 0.1, "d")


def small(size: int = 32, classes: int = 3, channels: int = 1, seed: int = 0) -> GAN:
    return GAN(
        spec(size, classes, channels), seed, latent_dim=8, generator_width=4, discriminator_width=4, class_width=4
    )


@pytest.mark.parametrize(("size", "classes", "channels"), [(32, 3, 1), (64, 0, 3), (128, 2, 3), (256, 2, 3)])
def test_every_size_gives_images_in_range_and_both_heads(size: int, classes: int, channels: int) -> None:
    gan = small(size, classes, channels)
    z, y = gan.latents(2, "test")
    assert (y is None) == (classes == 0)
    images = gan.generate(z, y)
    assert images.shape == (2, channels, size, size) and images.min() >= 0 and images.max() <= 1
    output = gan.discriminate(images)
    assert output.authenticity.shape == (2,)
    assert (output.class_logits is None) if not classes else output.class_logits.shape == (2, classes)  # type: ignore[union-attr]
    levels = (size // 4).bit_length() - 1
    sides = [size // 2 ** (level + 1) for level in range(levels)]
    assert [f.shape[2] for f in output.features] == sides + (sides[1:] if classes else [])


def test_the_game_and_the_class_head_touch_only_their_own_blocks_and_the_shared_one() -> None:
    gan = small()
    output = gan.discriminate(torch.rand(2, 1, 32, 32))
    assert output.class_logits is not None
    output.class_logits.sum().backward()
    touched = {name.split(".")[0:2][0] for name, p in gan.discriminator.named_parameters() if p.grad is not None}
    assert touched == {"blocks", "class_blocks", "classes"}
    assert all(p.grad is None for p in gan.discriminator.blocks[1].parameters())
    others, own = gan.configure_optimizers()[0].param_groups
    assert (others["lr"], own["lr"]) == (2e-4, 4e-3)
    assert {id(p) for p in own["params"]} == {id(p) for p in gan.discriminator.parameters() if p.grad is not None}
    assert len(others["params"]) + len(own["params"]) == len(list(gan.discriminator.parameters()))


def test_one_head_alone_gives_what_both_together_give() -> None:
    gan = small().eval()
    images = torch.rand(3, 1, 32, 32)
    output = gan.discriminate(images)
    assert torch.equal(gan.authenticity_logits(images), output.authenticity)
    assert output.class_logits is not None and torch.equal(gan.class_logits(images), output.class_logits)
    with pytest.raises(ValueError, match="no class head"):
        small(classes=0).class_logits(images)


def test_the_class_does_not_drown_the_code_before_training() -> None:
    gan = GAN(spec(classes=10), 0)
    z, _ = gan.latents(40, "test")
    y = torch.arange(10).repeat_interleave(4)
    of_codes = gan.generate(z, torch.zeros_like(y)).std(0).mean()
    of_classes = gan.generate(z[:1].expand_as(z), y).std(0).mean()
    assert 0 < 3 * of_classes < of_codes


def test_a_size_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"data\.size=48"):
        small(48)


def test_spectral_norm_bounds_the_discriminators_weights() -> None:
    gan = small()
    for _ in range(20):  # power iterations
        gan.discriminate(torch.rand(4, 1, 32, 32))
    gan.eval()
    weight = gan.discriminator.blocks[1][0].weight.flatten(1)  # type: ignore[index, union-attr]
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1.0, abs=0.05)


def test_seeds_decide_weights_and_latents_and_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    one, again, other = small(seed=1), small(seed=1), small(seed=2)
    assert torch.equal(state, torch.get_rng_state())
    weights = [next(gan.generator.parameters()) for gan in (one, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    draws = [one.latents(4, "train", seen, rank)[0] for seen, rank in ((0, 0), (0, 1), (64, 0), (0, 0))]
    assert torch.equal(draws[0], draws[3])
    assert not torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_classes_are_drawn_as_often_as_the_train_split_has_them() -> None:
    def drawn(*shares: float) -> Tensor:
        gan = GAN(replace(spec(), class_shares=shares), 0, latent_dim=8, generator_width=4, discriminator_width=4)
        z, y = gan.latents(4000, "test")
        assert y is not None and y.dtype == torch.int64 and torch.equal(z, gan.latents(4000, "test")[0])
        return y

    found = torch.bincount(drawn(0.7, 0.05, 0.25), minlength=3) / 4000
    assert torch.allclose(found, torch.tensor([0.7, 0.05, 0.25]), atol=0.03)  # four standard deviations
    assert torch.equal(drawn(), integers(3, 4000, 0, "class", "test"))
    assert torch.equal(drawn(1 / 3, 1 / 3, 1 / 3), drawn())


def test_the_average_halves_old_weights_after_a_half_life() -> None:
    gan = small()
    ema = GeneratorEMA(gan.generator, half_life=100.0, ramp=1.0)
    before = next(ema.averaged.parameters()).clone()
    with torch.no_grad():
        for parameter in gan.generator.parameters():
            parameter.add_(1.0)
        next(gan.generator.buffers()).add_(3.0)
    for seen in range(10, 101, 10):
        ema.update(gan.generator, 10, 10_000 + seen)
    assert torch.allclose(next(ema.averaged.parameters()), before + 0.5, atol=1e-5)
    assert torch.allclose(next(ema.averaged.buffers()), next(gan.generator.buffers()) - 1.5, atol=1e-5)
    assert not ema.train().averaged.training


@pytest.mark.parametrize("condition", ["auxiliary", "projection"])
def test_the_generator_learns_classes_as_configured(
    gan: Callable[..., GAN], batch: Batch, condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the class head, which the projection leaves beside the game, or of the logit that is asked with a label."""
    module = gan(condition=condition)
    asked: list[Tensor | None] = []
    forward = module.discriminator.forward
    monkeypatch.setattr(module.discriminator, "forward", lambda x, y=None: asked.append(y) or forward(x, y))  # type: ignore[func-returns-value]
    module.training_step(batch, 0)
    _, y = module.latents(8, "train", 0, 0)
    assert batch.labels is not None and y is not None
    of_discriminator, of_generator = asked
    assert of_discriminator is not None and torch.equal(of_discriminator, torch.cat([batch.labels, y]))
    assert of_generator is not None and torch.equal(of_generator, y)


@pytest.mark.parametrize(
    ("settings", "weight"),
    [
        ({}, 1.0),
        ({"class_weight": 0.5}, 0.5),
        ({"condition": "projection"}, 0.0),
        ({"condition": "projection", "generator_class_weight": 0.2}, 0.2),
        ({"generator_class_weight": 0.0}, 0.0),
    ],
)
def test_the_class_heads_weight_in_the_generators_loss(
    gan: Callable[..., GAN], batch: Batch, settings: dict[str, object], weight: float
) -> None:
    figures = []
    for asked in (settings, {**settings, "generator_class_weight": 1.0}):
        module = gan(**asked)
        module.training_step(batch, 0)
        figures.append(module.step_figures)
    assert torch.equal(figures[0]["train/loss_discriminator"], figures[1]["train/loss_discriminator"])
    key = "train/loss_generator_class"
    assert figures[0].get(key, torch.zeros(())).item() == pytest.approx(weight * figures[1][key].item(), rel=1e-5)


def test_a_projection_is_judged_with_and_without_labels(gan: Callable[..., GAN], batch: Batch) -> None:
    module = gan(condition="projection").eval()
    for labels in (None, batch.labels):
        logits = module.authenticity_logits(batch.images, labels)
        assert torch.equal(logits, module.discriminate(batch.images, labels).authenticity)
    assert batch.labels is not None
    every = torch.stack([module.authenticity_logits(batch.images, torch.full_like(batch.labels, y)) for y in range(3)])
    marginal = module.authenticity_logits(batch.images)
    assert (marginal >= every.amin(0) - 1e-6).all() and (marginal <= every.amax(0) + 1e-6).all()
    assert not torch.equal(every[0], every[1])


@pytest.mark.parametrize(("ramp", "seen", "half_life"), [(0.5, 40, 20.0), (0.5, 10_000, 100.0), (None, 40, 100.0)])
def test_the_half_life_grows_with_the_images_seen(ramp: float | None, seen: int, half_life: float) -> None:
    gan = GAN(spec(), 0, generator_width=4, ema_half_life=100.0, ema_ramp=ramp)
    before = next(gan.ema.averaged.parameters()).clone()
    with torch.no_grad():
        next(gan.generator.parameters()).add_(1.0)
    gan.ema.update(gan.generator, 10, seen)
    moved = next(gan.ema.averaged.parameters()) - before
    assert torch.allclose(moved, torch.tensor(1 - 0.5 ** (10 / half_life)), atol=1e-5)
