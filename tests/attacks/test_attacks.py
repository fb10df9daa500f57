"""FGSM and PGD on small victims: right, invariant, and without a trace."""

import copy
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.engine import step_size
from securegan.attacks.evasion.fgsm import FGSM
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.surfaces import AuthenticitySurface, LabelSurface, LatentSurface, label_margin

EPS = 0.1


def surface_of(victim: nn.Module) -> LabelSurface:
    return LabelSurface(victim, (victim,), "abcd")


def decisions(victim: nn.Module, images: Tensor) -> Tensor:
    """The victim's own decisions in evaluation mode: every clean decision is right."""
    twin = copy.deepcopy(victim).eval()
    with torch.no_grad():
        return twin(images).argmax(1)


def linear(weight: Tensor) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight, torch.zeros(len(weight))
    return nn.Sequential(nn.Flatten(), layer)


def test_pgd_reaches_the_closed_form_on_a_linear_classifier() -> None:
    """In L-inf the worst margin is the clean one plus eps times the L1 norm of the difference of the weights."""
    weight = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    victim = linear(weight)
    x = torch.full((8, 1, 4, 4), 0.5) + 0.05 * torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    y = decisions(victim, x)
    attack = PGD(eps=0.2, steps=20, restarts=1, early_drop=False, objectives=("margin",))
    result = attack(surface_of(victim), x, y)
    reached = label_margin(victim(result.adversarial), y)
    best = label_margin(victim(x), y) + 0.2 * (weight[0] - weight[1]).abs().sum()
    assert torch.allclose(reached, best, atol=1e-4)


def test_fgsm_is_the_formula_and_pgd_is_stronger(victim: nn.Module, images: Tensor) -> None:
    y = decisions(victim, images)
    result = FGSM(eps=EPS)(surface_of(victim), images, y)
    twin = copy.deepcopy(victim).eval()
    x = images.clone().requires_grad_(True)
    nn.functional.cross_entropy(twin(x), y, reduction="sum").backward()
    assert x.grad is not None
    expected = (images + EPS * x.grad.sign()).clamp(0, 1)
    assert torch.allclose(result.adversarial, expected, atol=1e-6)
    stronger = PGD(eps=EPS, restarts=2)(surface_of(victim), images, y).success
    assert stronger.sum() >= result.success.sum() > 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_success_grows_with_eps_and_reaches_everything(victim: nn.Module, images: Tensor, norm: str) -> None:
    y = decisions(victim, images)
    wide = 1.0 if norm == "linf" else 8.0
    rates = [
        int(PGD(eps=factor * wide, norm=norm, restarts=1)(surface_of(victim), images, y).success.sum())  # type: ignore[arg-type]
        for factor in (0.02, 0.1, 1.0)
    ]
    assert rates == sorted(rates)
    assert rates[-1] == len(images) > rates[0]


def test_what_fills_the_batch_up_costs_no_example_anything(victim: nn.Module, images: Tensor) -> None:
    y = decisions(victim, images)
    attack, keys = PGD(eps=0.05, steps=6, restarts=2), torch.arange(len(images))
    together = attack(surface_of(victim), images, y, keys=keys)
    assert 0 < together.success.sum() < len(images)
    for n, row in enumerate(keys.split(1)):
        alone = attack(surface_of(victim), images[row], y[row], keys=row)
        assert alone.queries[0] == together.queries[n] and alone.success[0] == together.success[n]


def test_batches_keep_to_few_sizes_and_shrink_as_examples_are_fooled(victim: nn.Module, images: Tensor) -> None:
    sizes: list[int] = []

    def recorded(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return victim(x)

    surface = LabelSurface(recorded, (victim,), "abcd")
    many = images.repeat(5, 1, 1, 1)[:117]
    PGD(eps=0.2, steps=10, restarts=3)(surface, many, decisions(victim, many))
    assert sizes[0] == 117 and sizes[1] == 128 and min(sizes) < 64
    assert all(size % (4 if size <= 8 else 8 if size <= 64 else 16) == 0 for size in sizes[1:])


def test_early_drop_loses_no_success(victim: nn.Module, images: Tensor) -> None:
    y, keys = decisions(victim, images), torch.arange(len(images))
    dropped = PGD(eps=EPS / 2, restarts=1)(surface_of(victim), images, y, keys=keys)
    kept = PGD(eps=EPS / 2, restarts=1, early_drop=False)(surface_of(victim), images, y, keys=keys)
    assert torch.equal(dropped.success, kept.success)
    assert dropped.queries.sum() < kept.queries.sum()


def test_margin_is_blind_to_shifts_and_scales_of_logits(victim: nn.Module, images: Tensor) -> None:
    """Large logits starve cross-entropy of gradients (float32 softmax saturates); the margin does not care."""
    y = decisions(victim, images)
    plain = PGD(eps=EPS / 2, restarts=1, objectives=("margin",))(surface_of(victim), images, y).success
    for scale, shift in ((1000.0, 0.0), (1.0, -100.0)):
        masked = LabelSurface(lambda x, a=scale, b=shift: a * victim(x) + b, (victim,), "abcd")  # type: ignore[misc]
        assert torch.equal(PGD(eps=EPS / 2, restarts=1, objectives=("margin",))(masked, images, y).success, plain)


def inference() -> AbstractContextManager[None]:
    return torch.inference_mode()


def test_the_victim_is_left_untouched_by_a_failing_attack(victim: nn.Module, images: Tensor) -> None:
    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    victim.train()
    with pytest.raises(RuntimeError, match="out of memory"):
        PGD(eps=EPS)(LabelSurface(broken, (victim,), "abcd"), images, torch.zeros(24, dtype=torch.int64))
    assert all(module.training for module in victim.modules())
    assert all(parameter.requires_grad for parameter in victim.parameters())


def test_a_step_size_is_the_one_given_or_reaches_the_border_from_anywhere() -> None:
    assert step_size(0.1, 20, 0.003) == 0.003 and step_size(0.1, 20, 0.0) == 0
    for steps in (1, 7, 100):
        assert 2 * 0.1 < steps * step_size(0.1, steps) == pytest.approx(0.25)


def test_authenticity_counts_both_directions() -> None:
    """The score is the mean pixel: bright is real. Each side is pushed across the threshold."""
    surface = AuthenticitySurface(lambda x: x.flatten(1).mean(1), 0.5, ())
    x = torch.tensor([0.55, 0.9, 0.45, 0.1])[:, None, None, None].expand(4, 1, 4, 4).clone()
    real = torch.tensor([1, 1, 0, 0])
    result = PGD(eps=EPS)(surface, x, real)
    assert result.clean_right.all()
    assert result.success.tolist() == [True, False, True, False]


def test_latent_attack_moves_the_generated_class_within_the_shell() -> None:
    generate = nn.Linear(8, 4)
    torch.nn.init.orthogonal_(generate.weight)
    surface = LatentSurface(lambda z, y: generate(z), lambda image: image, 8, (generate,), "abcd")
    z = surface.space.into_shell(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)))  # type: ignore[union-attr]
    y = generate(z).argmax(1)
    result = PGD(eps=EPS, latent_eps=0.5)(surface, z, y)
    assert result.clean_right.all() and result.valid.all() and result.success.sum() > 0
    assert result.distance.max() <= 0.5 * (1 + 1e-6)
    radius = result.adversarial.norm(dim=1)
    assert (radius >= surface.space.inner * (1 - 1e-6)).all() and (radius <= surface.space.outer * (1 + 1e-6)).all()  # type: ignore[union-attr]
