"""Attacks that look for the nearest success: the distance they find, where it is known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.evasion.cw import CarliniWagner
from securegan.attacks.evasion.deepfool import DeepFool
from securegan.attacks.reconstruction import ReconstructionSurface
from securegan.attacks.surfaces import AuthenticitySurface, LabelSurface, LatentDriftSurface, LatentSurface

MINIMAL: dict[str, Callable[[], EvasionAttack]] = {
    "cw": lambda: CarliniWagner(eps=0.01, latent_eps=0.01),
    "deepfool": lambda: DeepFool(eps=0.01, latent_eps=0.01),
    "deepfool linf": lambda: DeepFool(norm="linf", eps=0.001, latent_eps=0.001),
}
minimal = pytest.mark.parametrize("make", MINIMAL.values(), ids=MINIMAL)


class Linear(nn.Module):
    """``(N, 1, 4, 4)`` to five classes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


def linear() -> LabelSurface:
    victim = Linear()
    return LabelSurface(victim, (victim,), "abcde")


def to_planes(surface: LabelSurface, x: Tensor, y: Tensor, norm: str, *, boxed: bool = False) -> Tensor:
    """``(N, 5)`` distances to the planes between the right class and the others; ``boxed``: of values that can move."""
    weight, logits = surface.victims[0].weight, surface.classify(x)
    assert isinstance(weight, Tensor)
    towards = weight[None] - weight[y][:, None]
    if boxed:
        flat = x.flatten(1)[:, None]
        towards = towards * ~(((flat == 0) & (towards < 0)) | ((flat == 1) & (towards > 0)))
    size = towards.norm(dim=2) if norm == "l2" else towards.abs().sum(2)
    distance = (logits.gather(1, y[:, None]) - logits) / size
    return distance.scatter(1, y[:, None], torch.inf)


@minimal
def test_the_distance_to_the_nearest_plane_is_reached(make: Callable[[], EvasionAttack]) -> None:
    """Whatever the radius is: it says which successes count, not where the search ends."""
    surface, attack = linear(), make()
    x = 0.5 + 0.02 * torch.randn(32, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    y = surface.classify(x).argmax(1)
    result = attack(surface, x, y)
    nearest = to_planes(surface, x, y, attack.norm).amin(1)
    assert (result.nearest >= nearest * (1 - 1e-5)).all() and (result.nearest <= 1.02 * nearest + 2e-4).all()
    assert torch.equal(result.success, result.nearest <= attack.eps * (1 + 1e-6))
    assert not result.success.all() and torch.equal(result.adversarial[~result.success], x[~result.success])


@minimal
def test_black_and_white_pixels_move(make: Callable[[], EvasionAttack]) -> None:
    """The closed form of images without a grey value, of whose values half can only move away from the plane."""
    surface, attack = linear(), make()
    x = (torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(2)) > 0.5).float()
    y = surface.classify(x).argmax(1)
    planes = to_planes(surface, x, y, attack.norm, boxed=True)
    near = planes.amin(1) < (0.8 if attack.norm == "l2" else 0.3)  # so that no pixel has to cross the whole range
    result = attack(surface, x[near], y[near])
    assert near.sum() > 10 and (result.nearest >= planes[near].amin(1) * (1 - 1e-5)).all()
    ratio = result.nearest / planes[near].amin(1)
    assert ratio.median() < 1.02 and ratio.isfinite().all()


@minimal
def test_neither_shift_nor_scale_of_logits_matters(
    make: Callable[[], EvasionAttack], victim: nn.Module, images: Tensor, truth: Tensor
) -> None:
    images, truth, found = images[:8], truth[:8], []
    for scale, shift in ((1.0, 0.0), (1.0, -100.0), (100.0, 0.0)):
        surface = LabelSurface(lambda x, a=scale, b=shift: a * victim(x) + b, (victim,), "abcd")  # type: ignore[misc]
        found.append(make()(surface, images, truth).nearest)
    assert found[0].isfinite().all()
    assert torch.allclose(found[1], found[0], rtol=0.03) and torch.allclose(found[2], found[0], rtol=0.03)


@minimal
def test_decisions_that_are_not_among_classes(make: Callable[[], EvasionAttack]) -> None:
    """The mean pixel against a threshold, an autoencoder that amplifies detail, and codes."""
    attack = make()
    score = AuthenticitySurface(lambda x: x.flatten(1).mean(1), 0.5, ())
    x = torch.tensor([0.55, 0.7, 0.45, 0.1])[:, None, None, None].expand(4, 1, 4, 4).clone()
    result = attack(score, x, torch.tensor([1, 1, 0, 0]))
    away = torch.tensor([0.05, 0.2, 0.05, 0.4]) * (4 if attack.norm == "l2" else 1)
    assert torch.allclose(result.nearest, away, rtol=0.02, atol=2e-4)

    smooth = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    images = nn.functional.interpolate(
        torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0)), size=16, mode="bilinear"
    )
    sharpen = ReconstructionSurface(lambda x, labels: 4 * x - 3 * smooth(x), images.mean(0), ())
    result = attack(sharpen, images, sharpen.hold(images, torch.zeros(4, dtype=torch.int64)), keys=torch.arange(4))
    assert result.clean_right.any() and result.nearest[result.clean_right].isfinite().all()


@minimal
def test_codes_are_moved_within_the_shell(make: Callable[[], EvasionAttack]) -> None:
    generate = nn.Linear(8, 4)
    nn.init.orthogonal_(generate.weight, generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(generate.bias)
    attack = make()
    attack.latent_eps = 3.0
    labels = LatentSurface(lambda z, y: generate(z), lambda image: image, 8, (generate,), "abcd")
    features = generate(torch.randn(500, 8, generator=torch.Generator().manual_seed(1))).detach()
    drift = LatentDriftSurface(generate, lambda image: image, features, 8, (generate,))
    z = labels.space.into_shell(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)))  # type: ignore[union-attr]
    with torch.no_grad():
        logits = generate(z)
    y = logits.argmax(1)
    for surface in (labels, drift):
        result = attack(surface, z, y)
        assert result.success[result.clean_right].float().mean() > 0.8
        radius = result.adversarial.norm(dim=1)
        assert (radius >= labels.space.inner * (1 - 1e-6)).all() and (radius <= labels.space.outer * (1 + 1e-6)).all()  # type: ignore[union-attr]
    if attack.norm == "l2":
        gaps = logits.amax(1, keepdim=True) - logits.scatter(1, y[:, None], -torch.inf)
        nearest = attack(labels, z, y).nearest
        assert (nearest / (gaps.amin(1) / 2**0.5)).median() == pytest.approx(1, abs=0.025)
