"""Adversarial training: the schedule, what enters an update, and that its inner attack raises the loss."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from securegan.data.batch import DataSpec
from securegan.defenses.adversarial_training import AdversarialTraining
from securegan.defenses.gradient_penalty import GradientPenalty
from securegan.errors import ConfigError
from securegan.models.gan.lightning_model import GAN
from securegan.models.ports import Inputs, StepContext
from securegan.models.vae.lightning_model import VAE

SPEC = DataSpec("test", 1, 32, 3, ("a", "b", "c"), 0.1, "d")


def gan() -> GAN:
    return GAN(SPEC, 0, latent_dim=8, generator_width=4, discriminator_width=4)


def context(module: GAN, n: int = 8) -> StepContext:
    g = torch.Generator().manual_seed(0)
    real, fake = (torch.rand(n, 1, 32, 32, generator=g) for _ in range(2))
    labels = torch.randint(3, (n,), generator=g)
    inputs = [Inputs(real, labels, real=True), Inputs(fake, labels, real=False, class_weight=0.0)]
    return StepContext(module, "discriminator", 0, 0, inputs)


def test_warm_up_then_equal_steps_then_full_strength() -> None:
    defense = AdversarialTraining(0.1, 0, warmup_epochs=2, ramp_epochs=3)
    assert [defense.strength(epoch) for epoch in range(7)] == [0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert [defense.full_strength(epoch) for epoch in (4, 5)] == [False, True]
    assert AdversarialTraining(0.1, 0, warmup_epochs=0, ramp_epochs=0).strength(0) == 1


def test_nothing_is_added_in_the_warm_up_and_twins_of_both_origins_afterwards() -> None:
    module = gan()
    defense = AdversarialTraining(0.1, 0, real_share=1.0, fake_share=0.5, eps_factor=1.0)
    defense.attach(module, SimpleNamespace(callbacks=[]))  # type: ignore[arg-type]
    (hook,) = module.ports["discriminator"].batch
    step = context(module)
    hook(step)
    assert len(step.inputs) == 2
    defense._strength = 1.0
    hook(step)
    real, fake, real_twin, fake_twin = step.inputs
    assert (real_twin.real, len(real_twin.images)) == (True, 8) and (fake_twin.real, len(fake_twin.images)) == (
        False,
        4,
    )
    assert torch.equal(real_twin.labels, real.labels)  # type: ignore[arg-type]
    assert fake_twin.class_weight > 0
    for twin, origin in ((real_twin, real), (fake_twin, fake)):
        distance = (twin.images - origin.images[: len(twin.images)]).abs()
        assert 0.09 < distance.max() <= 0.1 * (1 + 1e-6)
        assert twin.images.min() >= 0 and twin.images.max() <= 1


def test_an_autoencoder_gets_twins_that_are_to_be_given_back_clean() -> None:
    module = VAE(SPEC, 0, latent_dim=8, encoder_width=4, decoder_width=4)
    defense = AdversarialTraining(0.1, 0, real_share=0.5, eps_factor=1.0, steps=5)
    defense.attach(module, SimpleNamespace(callbacks=[]))  # type: ignore[arg-type]
    (hook,) = module.ports["autoencoder"].batch
    images = torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 3
    step = StepContext(module, "autoencoder", 0, 0, [Inputs(images, labels, real=True)])
    before = {name: value.clone() for name, value in module.state_dict().items()}
    defense._strength = 1.0
    hook(step)
    twin = step.inputs[1]
    assert len(twin.images) == 4 and twin.target is not None and torch.equal(twin.target, images[:4])
    delta = twin.images - twin.target
    assert 0.09 < delta.abs().max() <= 0.1 * (1 + 1e-6)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    module.eval()
    noisy = (twin.target + 0.1 * torch.sign(torch.randn(delta.shape))).clamp(0, 1)
    error, at_random = (
        (module.reconstruct_raw(x, labels[:4]) - twin.target).square().sum() for x in (twin.images, noisy)
    )
    assert error > at_random


def test_a_model_without_a_discriminator_has_no_place_for_its_gradient_penalty() -> None:
    with pytest.raises(ConfigError, match="gradient_penalty"):
        GradientPenalty(0.1, 0).attach(VAE(SPEC, 0, latent_dim=8), SimpleNamespace())  # type: ignore[arg-type]


def test_the_inner_attack_raises_the_loss_more_than_noise_and_leaves_no_trace() -> None:
    module = gan()
    module.train()
    defense = AdversarialTraining(0.1, 0, steps=5)
    defense._strength = 1.0
    step = context(module)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    labels = step.inputs[0].labels
    assert labels is not None
    twins = defense._perturb(step, step.inputs[:1])
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in state.items())
    assert all(p.grad is None and p.requires_grad for p in module.discriminator.parameters())
    module.eval()
    noise = (step.inputs[0].images + 0.1 * torch.randn_like(twins).sign()).clamp(0, 1)

    def loss(images: torch.Tensor) -> float:
        logits = module.discriminate(images).class_logits
        assert logits is not None
        return F.cross_entropy(logits, labels).item()

    assert loss(twins) > loss(noise) and loss(twins) > loss(step.inputs[0].images)


def test_two_defences_compose_on_one_model() -> None:
    module = gan()
    trainer = SimpleNamespace(callbacks=[])
    AdversarialTraining(0.1, 0).attach(module, trainer)  # type: ignore[arg-type]
    GradientPenalty(0.1, 0).attach(module, trainer)  # type: ignore[arg-type]
    ports = module.ports["discriminator"]
    assert len(ports.batch) == 1 and len(ports.loss) == 1


def test_the_gradient_penalty_is_the_squared_norm_and_can_be_trained_on() -> None:
    module = gan().eval()
    step = context(module)
    penalty = GradientPenalty(0.1, 0, weight=2.0)._penalty(step)
    x = step.inputs[0].images.clone().requires_grad_(True)
    logits = module.discriminate(x).class_logits
    assert logits is not None
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, step.inputs[0].labels, reduction="sum"), x)  # type: ignore[arg-type]
    assert penalty.item() == pytest.approx(2 * gradient.flatten(1).square().sum(1).mean().item(), rel=1e-4)
    penalty.backward()
    assert any(p.grad is not None for p in module.discriminator.parameters())
