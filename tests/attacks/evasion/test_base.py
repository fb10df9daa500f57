"""What the base class does about memory, time, and what is no number."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks import engine
from securegan.attacks.engine import look
from securegan.attacks.evasion import base
from securegan.attacks.evasion.apgd import APGD
from securegan.attacks.evasion.base import EvasionAttack, laid_out
from securegan.attacks.evasion.cw import CarliniWagner
from securegan.attacks.evasion.deepfool import DeepFool
from securegan.attacks.evasion.few_pixel import FewPixel
from securegan.attacks.evasion.hopskipjump import HopSkipJump
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.evasion.square import Square
from securegan.attacks.evasion.suite import Suite
from securegan.attacks.surfaces import LabelSurface
from securegan.attacks.threat import AttackResult
from securegan.errors import ConfigError, UserError


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


class Torn(torch.autograd.Function):
    """The identity, whose gradient is not a number for every other example."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        torn = gradients[0].clone()
        torn[::2] = torch.nan
        return torn


@pytest.mark.parametrize("make", [PGD, APGD])
def test_gradients_that_are_no_numbers_cost_no_example_its_other_chances(
    make: type[PGD | APGD], victim: nn.Module, images: Tensor, truth: Tensor
) -> None:
    surface = LabelSurface(lambda x: victim(Torn.apply(x)), (victim,), "abcd")
    result = make(norm="l2", eps=1.0, steps=5)(surface, images, truth, keys=torch.arange(24))
    assert result.valid.all() and result.adversarial.isfinite().all()
    assert result.success[1::2].float().mean() > 0.8


def test_a_decision_that_is_no_number_is_refused_and_never_a_success(images: Tensor) -> None:
    nothing = LabelSurface(lambda x: x.flatten(1)[:, :4] * torch.nan, (), "abcd")
    with pytest.raises(UserError, match=r"\(label\) is not a number on 24 of 24"):
        PGD(eps=0.1)(nothing, images, torch.zeros(24, dtype=torch.int64))
    first = images[:, :, :1, :1].flatten()  # moving the first pixel breaks the network
    broken = LabelSurface(
        lambda x: torch.where((x[:, 0, 0, 0] != first)[:, None], torch.nan, torch.eye(4)[:1] + 0 * x.flatten(1)[:, :4]),
        (),
        "abcd",
    )
    result = Square(eps=0.1, queries=20)(broken, images, torch.zeros(24, dtype=torch.int64))
    assert result.clean_right.all() and not result.success.any()


@pytest.mark.parametrize("make", [PGD, APGD, Square, CarliniWagner, DeepFool, HopSkipJump, Suite])
def test_nothing_to_attack_gives_nothing(make: type[EvasionAttack], surface: LabelSurface, images: Tensor) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    result = make(eps=0.1)(surface, images[:0], none, keys=none)  # type: ignore[call-arg]
    assert result.adversarial.shape == (0, 1, 8, 8) and len(result.success) == 0


def test_a_target_beyond_the_classes_and_half_a_pixel_are_refused() -> None:
    reason = PGD(eps=0.1, targeted=12).unsuited("pixels", 10)
    assert reason is not None and "expected a number below 10" in reason
    assert PGD(eps=0.1, targeted=9).unsuited("pixels", 10) is None
    with pytest.raises(ConfigError, match=r"attack\.eps=0\.03.*counts pixels"):
        FewPixel(eps=8 / 255).check_radius()
    assert FewPixel(eps=5).at(0.5).eps == 2 and FewPixel(eps=3).at(0.5).eps == 2


def test_a_suite_aims_deepfool_at_the_target(surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    suite = Suite(norm="l2", eps=4.0, attacks=["deepfool"], targeted="next")
    result = suite(surface, images, truth, keys=torch.arange(24))
    victim = copy.deepcopy(surface.victims[0]).eval()
    with torch.no_grad():
        decided = victim(result.adversarial).argmax(1)
    assert result.success.any() and torch.equal(decided == (truth + 1) % 4, result.success)
