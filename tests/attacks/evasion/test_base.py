"""What the base class does about memory and time changes no result."""

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks import engine
from securegan.attacks.engine import look
from securegan.attacks.evasion import base
from securegan.attacks.evasion.apgd import APGD
from securegan.attacks.evasion.base import EvasionAttack, laid_out
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.surfaces import LabelSurface
from securegan.attacks.threat import AttackResult


@pytest.fixture
def colour() -> tuple[LabelSurface, Tensor, Tensor]:
    """A convolutional net on colour images, and its own decisions."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 4)
    ).eval()
    images = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        truth = net(images).argmax(1)
    return LabelSurface(net, (net,), "abcd"), images, truth


def attacked(attack: EvasionAttack, victim: tuple[LabelSurface, Tensor, Tensor]) -> AttackResult:
    surface, images, truth = victim
    return attack(surface, images, truth, keys=torch.arange(24))


@pytest.mark.parametrize(
    "attack", [PGD(eps=0.03, steps=6, restarts=1), APGD(norm="l2", eps=0.3, steps=6)], ids=["pgd", "apgd"]
)
def test_channels_last_changes_nothing_beyond_rounding(
    attack: EvasionAttack, colour: tuple[LabelSurface, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert laid_out(colour[1], colour[0].victims).is_contiguous(memory_format=torch.channels_last)
    quick = attacked(attack, colour)
    monkeypatch.setattr(base, "laid_out", lambda inputs, victims: inputs)
    plain = attacked(attack, colour)
    assert 0 < quick.success.sum() < 24
    assert torch.equal(quick.success, plain.success) and quick.adversarial.is_contiguous()
    assert torch.allclose(quick.adversarial, plain.adversarial, atol=1e-5)


def test_victims_without_convolutions_and_codes_keep_their_format() -> None:
    images = torch.rand(2, 3, 4, 4)
    assert laid_out(images, (nn.Linear(4, 2),)) is images
    codes = torch.rand(2, 16)
    assert laid_out(codes, (nn.Conv2d(1, 1, 1),)) is codes


def test_a_batch_seen_in_parts_is_seen_as_a_whole(
    colour: tuple[LabelSurface, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    surface, images, truth = colour
    whole, gradient = look(surface, images, truth, "ce", gradient=True)
    sizes: list[int] = []

    def recorded(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return surface.classify(x)

    monkeypatch.setattr(engine, "PART", 10 * 3 * 8 * 8)
    parts, gathered = look(LabelSurface(recorded, (), "abcd"), images, truth, "ce", gradient=True)
    assert sizes == [10, 10, 4]
    assert torch.allclose(gathered, gradient, atol=1e-6) and torch.allclose(parts.value, whole.value, atol=1e-6)
    assert torch.equal(parts.right, whole.right) and not parts.value.requires_grad
    none, empty = look(surface, images, truth, "ce", gradient=False)
    assert empty.numel() == 0 and torch.allclose(none.margin, whole.margin, atol=1e-6)
