"""The VAE: closed forms of its losses, the mixture it samples from, and what an update moves."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import distributions

from securegan.data.batch import DataSpec
from securegan.errors import ConfigError
from securegan.models.networks.autoencoder import Posterior
from securegan.models.networks.resnet import SelfAttention
from securegan.models.vae.lightning_model import VAE
from securegan.models.vae.likelihood import LEVELS, Distortion
from securegan.models.vae.mixture import LatentMixture


def spec(size: int = 32, classes: int = 3, channels: int = 1) -> DataSpec:
    return DataSpec("test", channels, size, classes, tuple("abcdefghij"[:classes]), 0.1, "d")


def small(size: int = 32, classes: int = 3, channels: int = 1, **settings: object) -> VAE:
    widths = {"latent_dim": 6, "encoder_width": 4, "decoder_width": 4}
    return VAE(spec(size, classes, channels), 0, **(widths | settings))  # type: ignore[arg-type]


def weights(n: int) -> torch.Tensor:
    return torch.full((n,), 1 / n)


@pytest.mark.parametrize(("size", "classes", "channels"), [(32, 3, 1), (64, 0, 3), (128, 2, 3)])
def test_every_size_generates_and_reconstructs_images_in_range(size: int, classes: int, channels: int) -> None:
    vae = small(size, classes, channels)
    z, y = vae.latents(2, "test")
    assert z.shape == (2, 7)  # one coordinate chooses the component
    images = vae.generate(z, y)
    made = vae.reconstruct(images, y)
    for some in (images, made):
        assert some.shape == (2, channels, size, size) and some.min() >= 0 and some.max() <= 1


def test_feature_maps_of_one_side_attend_to_themselves_in_both_halves() -> None:
    vae = small(network="resnet", attention=8)
    (of_encoder,) = (m for m in vae.autoencoder.encoder.modules() if isinstance(m, SelfAttention))
    (of_decoder,) = (m for m in vae.autoencoder.decoder.modules() if isinstance(m, SelfAttention))
    images, seen = torch.rand(2, 1, 32, 32), []
    for layer in (of_encoder, of_decoder):
        layer.register_forward_hook(lambda layer, given, found: seen.append(tuple(found.shape[2:])))
    before = vae.reconstruct_raw(images, torch.tensor([0, 1]))
    assert seen == [(8, 8), (8, 8)]
    for layer in (of_encoder, of_decoder):
        with torch.no_grad():
            layer.gamma.fill_(1.0)
        after = vae.reconstruct_raw(images, torch.tensor([0, 1]))
        assert not torch.allclose(before, after, atol=1e-6)
        before = after
    for settings in ({"attention": 8}, {"attention": 32, "network": "resnet"}):
        with pytest.raises(ConfigError, match=r"model\.attention="):
            small(**settings)


def test_the_divergences_weight_grows_by_equal_steps_until_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, found = small(beta=2.0, kl_warmup_epochs=3), []
    for epoch in range(5):
        monkeypatch.setattr(VAE, "trainer", SimpleNamespace(current_epoch=epoch))
        found.append(vae._kl_weight())
    assert found == [0.5, 1.0, 1.5, 2.0, 2.0]


def test_the_average_follows_the_ramp() -> None:
    for ramp, kept in ((0.05, 0.5), (None, 2 ** (-1 / 20))):
        vae = small(ema_half_life=2000.0, ema_ramp=ramp)
        before = vae.averaged.encoder.head.weight.clone()
        with torch.no_grad():
            vae.autoencoder.encoder.head.weight.add_(1.0)
        vae.ema.update(vae.autoencoder, 100, 2000)  # a twentieth of the images seen is a half-life under the ramp
        torch.testing.assert_close(vae.averaged.encoder.head.weight, before + 1 - kept)


def test_size_that_has_no_network_is_refused_by_its_key() -> None:
    with pytest.raises(ConfigError, match=r"data\.size=48"):
        small(48)


def test_divergence_is_that_of_the_distributions() -> None:
    posterior = Posterior(torch.randn(5, 4), torch.randn(5, 4))
    gaussian = distributions.Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    wanted = distributions.kl_divergence(gaussian, distributions.Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(posterior.divergence(), wanted, atol=1e-5)


def test_divergence_does_not_cancel_under_autocast() -> None:
    encoder = small().autoencoder.encoder
    with torch.no_grad():
        encoder.head.weight.mul_(0.02)  # near the prior, where training begins and unused coordinates stay
    images = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = encoder(images).divergence()
    with torch.autocast("cpu", torch.bfloat16):
        posterior = encoder(images)
        assert posterior.mean.dtype == posterior.log_variance.dtype == torch.float32
        assert torch.allclose(posterior.divergence(), plain, rtol=0.1) and 0 < float(plain.detach().max()) < 0.01


def test_gaussian_distortion_is_the_likelihood_at_the_best_variance() -> None:
    outputs, targets = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8)
    variance = (outputs - targets).square().mean()
    wanted = -distributions.Normal(outputs, variance.sqrt()).log_prob(targets).mean()
    assert torch.allclose(Distortion("gaussian", 1, 0.0)(outputs, targets, weights(3)), wanted, atol=1e-4)


def test_discretized_logistic_is_a_probability_of_the_levels() -> None:
    likelihood = Distortion("discretized_logistic", 1, 0.0)
    levels = (torch.arange(LEVELS) / (LEVELS - 1)).view(LEVELS, 1, 1, 1)
    for mean in (0.0, 0.3, 1.0):
        nats = likelihood._discretized(torch.full_like(levels, mean), levels)
        assert math.isclose(float((-nats.detach()).exp().sum()), 1.0, abs_tol=1e-3)


def test_discretized_logistic_is_symmetric_and_exact_in_the_tails() -> None:
    likelihood = Distortion("discretized_logistic", 1, 0.0)
    levels = (torch.arange(LEVELS) / (LEVELS - 1)).view(LEVELS, 1, 1, 1)
    for log_scale in (-7.0, -5.0, -1.0, 2.0):
        likelihood.log_scale.data.fill_(log_scale)  # type: ignore[union-attr]
        nats = likelihood._discretized(torch.full_like(levels, 0.2), levels).detach()
        mirrored = likelihood._discretized(torch.full_like(levels, 0.8), levels.flip(0)).detach()
        torch.testing.assert_close(nats, mirrored, rtol=1e-3, atol=1e-3)
        step, scale = 1 / (LEVELS - 1), math.exp(log_scale)
        centred = (levels[1:-1].double() - 0.2).abs()  # of the lower tail, which float64 resolves
        cdf = [torch.special.expit((s * step / 2 - centred) / scale) for s in (1, -1)]
        wanted = -(cdf[0] - cdf[1]).log()
        torch.testing.assert_close(
            nats[1:-1].double()[wanted < 500], wanted[wanted < 500], rtol=1e-3, atol=1e-3, msg=str(log_scale)
        )


@pytest.mark.parametrize("target", [0.0, 0.1, 0.9, 1.0])
def test_a_large_error_of_a_sure_decoder_still_pulls_at_it(target: float) -> None:
    """In its tails a logistic density falls as exp(-|x| / s): the slope is 1 / s."""
    likelihood = Distortion("discretized_logistic", 1, 0.0)
    likelihood.log_scale.data.fill_(-6.0)  # type: ignore[union-attr]
    output = torch.full((1, 1, 1, 1), 0.5, requires_grad=True)
    likelihood._discretized(output, torch.full_like(output, target).detach()).sum().backward()
    assert output.grad is not None and likelihood.log_scale is not None and likelihood.log_scale.grad is not None
    assert float(output.grad) == pytest.approx(math.copysign(math.exp(6), 0.5 - target), rel=1e-3)
    assert float(likelihood.log_scale.grad) < -100  # less sure is likelier


@pytest.mark.parametrize("kind", ["gaussian", "ssim", "discretized_logistic"])
def test_distortion_falls_as_the_output_nears_the_target(kind: str) -> None:
    target, noise = torch.rand(2, 1, 32, 32), torch.randn(2, 1, 32, 32)
    likelihood = Distortion(kind, 1, 0.5)  # type: ignore[arg-type]
    far, near, there = (likelihood((target + s * noise).clamp(0, 1), target, weights(2)) for s in (0.3, 0.1, 0.0))
    assert far > near > there and torch.isfinite(there)


def test_an_image_of_no_weight_does_not_count() -> None:
    outputs, targets = torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)
    likelihood = Distortion("ssim", 1, 0.5)
    alone = likelihood(outputs[:1], targets[:1], weights(1))
    assert torch.allclose(likelihood(outputs, targets, torch.tensor([1.0, 0.0])), alone)


def test_mixture_gives_back_the_gaussians_it_was_fitted_to() -> None:
    generator = torch.Generator().manual_seed(0)
    mixture = LatentMixture(2, 2, 3)
    labels = torch.arange(4000) % 2
    side = torch.where(torch.rand(4000, generator=generator) < 0.25, 4.0, -4.0)
    codes = torch.randn(4000, 3, generator=generator) * torch.tensor([0.5, 1.0, 2.0])
    codes[:, 0] += side * labels  # class 1 has two modes, a quarter of its codes in the right one
    mixture.fit(codes, labels, seed=0)
    drawn = mixture(torch.randn(20_000, 4, generator=generator), torch.ones(20_000, dtype=torch.int64))
    right = drawn[:, 0] > 0
    assert abs(float(right.float().mean()) - 0.25) < 0.03
    assert abs(float(drawn[right, 0].mean()) - 4) < 0.1 and abs(float(drawn[right, 0].std()) - 0.5) < 0.1
    assert torch.allclose(drawn[:, 1:].std(0), torch.tensor([1.0, 2.0]), rtol=0.1)
    other = mixture(torch.randn(20_000, 4, generator=generator), torch.zeros(20_000, dtype=torch.int64))
    assert torch.allclose(other.std(0), torch.tensor([0.5, 1.0, 2.0]), rtol=0.1)


@pytest.mark.parametrize(("n", "dim"), [(2000, 6), (300, 20)])
def test_codes_of_the_prior_get_one_component(n: int, dim: int) -> None:
    """More fit the noise: unseen codes are then less likely than under the prior itself."""
    generator = torch.Generator().manual_seed(0)
    mixture = LatentMixture(0, 10, dim)
    mixture.fit(torch.randn(n, dim, generator=generator), torch.full((n,), -1), seed=0)
    assert bool((mixture.cumulative > 1 - 1e-6).all())
    modes = torch.eye(3, dim).repeat(400, 1) * 12
    mixture.fit(modes + torch.randn(1200, dim, generator=generator), torch.full((1200,), -1), seed=0)
    assert float(mixture.cumulative[0, 0]) < 0.7


def test_mixture_that_is_not_fitted_is_the_prior() -> None:
    z = torch.randn(50, 4)
    assert torch.equal(LatentMixture(0, 5, 3)(z, None), z[:, 1:])


def test_unconditional_on_labelled_data_asks_for_no_class() -> None:
    vae = small(conditional=False)
    assert vae.latents(2, "test")[1] is None
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(vae.reconstruct(images, torch.tensor([0, 1])), vae.reconstruct(images, torch.tensor([2, 2])))
