"""Penalties on slopes against closed forms, and what the extra forward leaves behind."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from securegan.data.batch import Batch
from securegan.errors import ConfigError
from securegan.models.gan.lightning_model import GAN
from securegan.models.gan.penalties import Penalties, between, squared_slopes
from securegan.models.ports import Inputs


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


WEIGHTS = (noise(12) - 0.5).requires_grad_(True)


def linear(images: Tensor, labels: Tensor | None) -> Tensor:
    """Of images in [-1, 1], inside, as every network here."""
    return (images * 2 - 1).flatten(1) @ WEIGHTS + 3


def parts() -> tuple[Inputs, Inputs]:
    return Inputs(noise(5, 3, 2, 2), None, real=True), Inputs(noise(2, 3, 2, 2) / 2, None, real=False)


def test_the_slope_of_a_linear_discriminator_is_its_weights_norm() -> None:
    slopes = squared_slopes(linear, noise(4, 3, 2, 2), None)
    assert torch.allclose(slopes, WEIGHTS.square().sum().expand(4))
    (gradient,) = torch.autograd.grad(slopes.mean(), WEIGHTS)
    assert torch.allclose(gradient, 2 * WEIGHTS)  # differentiable: it can be trained down


def test_slopes_are_each_images_own() -> None:
    images = noise(4, 3, 2, 2)
    slopes = squared_slopes(lambda x, y: (x * 2 - 1).flatten(1).square().sum(1), images, None)
    assert torch.allclose(slopes, 4 * (images * 2 - 1).flatten(1).square().sum(1), rtol=1e-5)


def test_penalties_are_the_published_formulae_times_their_interval() -> None:
    square = WEIGHTS.square().sum().item()
    terms = dict(Penalties(r1=0.3, r2=0.5, gradient_penalty=10.0, every=4).terms(linear, *parts(), "key"))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"r1": 4 * 0.15 * square, "r2": 4 * 0.25 * square, "gradient_penalty": 4 * 10 * (square**0.5 - 1) ** 2}
    )


def test_a_flat_discriminator_has_a_finite_gradient() -> None:
    flat = torch.zeros(12, requires_grad=True)
    penalties = Penalties(r1=1.0, r2=1.0, gradient_penalty=1.0, every=1)
    total = sum(term for _, term in penalties.terms(lambda x, y: x.flatten(1) @ flat, *parts(), "key"))
    (gradient,) = torch.autograd.grad(total, flat)  # type: ignore[arg-type]
    assert torch.isfinite(gradient).all()


def test_interpolates_lie_between_their_ends_and_are_a_function_of_the_key() -> None:
    real, fake = torch.zeros(300, 1, 2, 2), torch.ones(2, 1, 2, 2)
    images = between(real, fake, 0, "a")
    assert torch.equal(images, images[:, :1, :1, :1].expand_as(images))  # one share an image
    assert 0 <= images.min() < 0.05 and 0.95 < images.max() <= 1 and abs(images.mean() - 0.5) < 0.05
    assert torch.equal(images, between(real, fake, 0, "a")) and not torch.equal(images, between(real, fake, 1, "a"))


def test_under_autocast_slopes_are_float32() -> None:
    images = noise(4, 3, 2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        slopes = squared_slopes(lambda x, y: F.linear(x.flatten(1), WEIGHTS[None])[:, 0], images, None)
    assert torch.equal(slopes, squared_slopes(lambda x, y: x.flatten(1) @ WEIGHTS, images, None))


def test_the_penalty_falls_in_every_nth_step_and_leaves_spectral_norm_alone(
    gan: Callable[..., GAN], batch: Batch
) -> None:
    plain, lazy = gan(), gan(r1=1e-20, penalty_every=2)
    for step in range(3):
        for module in (plain, lazy):
            module.training_step(batch, step)
        assert ("train/loss_discriminator_r1" in lazy.step_figures) == (step % 2 == 0)
        lazy.step_figures.clear()
    buffers = dict(lazy.discriminator.named_buffers())
    assert buffers and all(torch.allclose(b, buffers[n]) for n, b in plain.discriminator.named_buffers())
    assert lazy.discriminator.training


def test_r1_flattens_the_discriminator_at_real_images(gan: Callable[..., GAN], batch: Batch) -> None:
    def slope(module: GAN) -> float:
        for step in range(15):
            module.training_step(batch, step)
        return float(squared_slopes(module._authenticity, batch.images, batch.labels).mean())

    settings = {"spectral_norm": False, "lr_discriminator": 2e-3}
    assert slope(gan(r1=10.0, **settings)) < 0.5 * slope(gan(**settings))


@pytest.mark.parametrize("loss", ["nonsaturating", "hinge", "relativistic", "wasserstein"])
def test_every_loss_teaches_the_discriminator_to_tell(gan: Callable[..., GAN], batch: Batch, loss: str) -> None:
    module = gan(loss=loss, lr_generator=1e-9, lr_discriminator=2e-3, gradient_penalty=0.1)
    for step in range(30):
        module.training_step(batch, step)
    z, y = module.latents(8, "test")
    real, fake = module.authenticity_logits(batch.images), module.authenticity_logits(module.generate_raw(z, y))
    assert real.mean() > fake.mean() + 0.1


@pytest.mark.parametrize("loss", ["nonsaturating", "hinge", "relativistic", "wasserstein"])
def test_every_loss_teaches_the_generator_to_seem_real(gan: Callable[..., GAN], batch: Batch, loss: str) -> None:
    module = gan(loss=loss, lr_generator=2e-3, lr_discriminator=1e-9, class_weight=0.0)

    def level() -> float:
        return float(module.authenticity_logits(module.generate_raw(*module.latents(32, "test"))).mean())

    before = level()
    for step in range(20):
        module.training_step(batch, step)
    assert level() > before


def test_a_wasserstein_discriminator_without_bounds_is_refused(gan: Callable[..., GAN]) -> None:
    with pytest.raises(ConfigError, match=r"model\.loss=wasserstein is not allowed with model\.spectral_norm=false"):
        gan(loss="wasserstein", spectral_norm=False)
    gan(loss="wasserstein", spectral_norm=False, gradient_penalty=10.0)
