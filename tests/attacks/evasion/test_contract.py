"""What every evasion attack must keep to, on a small classifier."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.evasion.advgan import AdvGAN
from securegan.attacks.evasion.apgd import APGD
from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.evasion.boundary import Boundary
from securegan.attacks.evasion.cw import CarliniWagner
from securegan.attacks.evasion.deepfool import DeepFool
from securegan.attacks.evasion.few_pixel import FewPixel
from securegan.attacks.evasion.fgsm import FGSM
from securegan.attacks.evasion.genattack import GenAttack
from securegan.attacks.evasion.hopskipjump import HopSkipJump
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.evasion.square import Square
from securegan.attacks.evasion.suite import Suite
from securegan.attacks.evasion.transfer import Transfer
from securegan.attacks.shield import shielded
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import LabelSurface, Surface
from securegan.attacks.threat import AttackResult

EPS = 0.1
L2 = 0.6

Make = Callable[[float], EvasionAttack]


class FromVictim(Transfer):
    """Transfer whose surrogate is the victim itself."""

    def __call__(self, surface: Surface, *args: Any, **kwargs: Any) -> AttackResult:
        self.surrogate_surface = surface
        return super().__call__(surface, *args, **kwargs)


class Learnt(AdvGAN):
    """AdvGAN whose generator learns from random images, of the classes that the victim reads."""

    def __call__(self, surface: Surface, inputs: Tensor, reference: Tensor, **kwargs: Any) -> AttackResult:
        images = torch.rand(64, *inputs.shape[1:], generator=torch.Generator().manual_seed(7))
        with shielded(surface.victims), torch.no_grad():
            read = surface.logits(images, reference).argmax(1)
        self.prepare(surface, Supplies(images=lambda split, limit: (images, read)))
        return super().__call__(surface, inputs, reference, **kwargs)


# Each attack, small enough for a test, as a function of a factor of its radius.
ATTACKS: dict[str, Make] = {
    "fgsm": lambda factor: FGSM(eps=factor * EPS),
    "fgsm l2": lambda factor: FGSM(norm="l2", eps=factor * L2),
    "pgd": lambda factor: PGD(eps=factor * EPS, steps=8, restarts=2),
    "pgd l2": lambda factor: PGD(norm="l2", eps=factor * L2, steps=8, restarts=1),
    "pgd momentum": lambda factor: PGD(eps=factor * EPS, steps=8, restarts=1, momentum=1.0),
    "pgd dlr": lambda factor: PGD(eps=factor * EPS, steps=8, restarts=1, objectives=("dlr",)),
    "pgd bfloat16": lambda factor: PGD(eps=factor * EPS, steps=8, restarts=2, gradients="bfloat16"),
    "apgd": lambda factor: APGD(eps=factor * EPS, steps=12),
    "apgd l2": lambda factor: APGD(norm="l2", eps=factor * L2, steps=12, objectives=("ce", "dlr", "margin")),
    "apgd targets": lambda factor: APGD(eps=factor * EPS, steps=8, objectives=("ce",), target_classes=3),
    "square": lambda factor: Square(eps=factor * EPS, queries=60),
    "square l2": lambda factor: Square(norm="l2", eps=factor * L2, queries=60),
    "suite": lambda factor: Suite(eps=factor * EPS, steps=8, target_classes=3, queries=40),
    "suite l2": lambda factor: Suite(
        norm="l2", eps=factor * L2, attacks=["fgsm", "deepfool", "pgd", "apgd_margin"], steps=8, restarts=2
    ),
    "boundary": lambda factor: Boundary(eps=factor * L2, queries=200),
    "hopskipjump": lambda factor: HopSkipJump(eps=factor * L2, queries=400, probes=30),
    "hopskipjump linf": lambda factor: HopSkipJump(norm="linf", eps=factor * EPS, queries=400, probes=30),
    "genattack": lambda factor: GenAttack(eps=factor * EPS, queries=150),
    "few_pixel": lambda factor: FewPixel(eps=factor * 3, queries=400, population=40),
    "cw": lambda factor: CarliniWagner(eps=factor * L2, steps=60, searches=3, lr=0.03),
    "deepfool": lambda factor: DeepFool(eps=factor * L2),
    "deepfool linf": lambda factor: DeepFool(norm="linf", eps=factor * EPS),
    "advgan": lambda factor: Learnt(eps=factor * EPS, epochs=20),
    "transfer": lambda factor: FromVictim(eps=factor * EPS, steps=8, restarts=2),
    "transfer l2": lambda factor: FromVictim(norm="l2", eps=factor * L2, steps=8, restarts=1, objective="margin"),
}
GRADIENTS = [name for name in ATTACKS if name.split()[0] in {"fgsm", "pgd", "apgd"}]

attacks = pytest.mark.parametrize("make", ATTACKS.values(), ids=ATTACKS)


@attacks
def test_radius_zero_changes_nothing(make: Make, surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    result = make(0)(surface, images, truth)
    assert torch.equal(result.adversarial, images) and not result.success.any()


@attacks
def test_what_is_found_is_wrong_and_within_bounds_exactly(
    make: Make, surface: LabelSurface, images: Tensor, truth: Tensor
) -> None:
    attack = make(1)
    images[:4] = (images[:4] > 0.5).float()  # exactly black and white pixels
    victim = copy.deepcopy(surface.victims[0]).eval()
    with torch.no_grad():
        truth = victim(images).argmax(1)
    truth[:3] = (truth[:3] + 1) % 4  # wrong before any attack
    result = attack(surface, images, truth, keys=torch.arange(24))
    assert result.clean_right.tolist() == [False] * 3 + [True] * 21
    assert torch.equal(result.adversarial[:3], images[:3])
    assert result.valid.all() and result.adversarial.min() >= 0 and result.adversarial.max() <= 1
    moved = (result.adversarial.double() - images.double()).flatten(1)
    measure = {"linf": moved.abs().amax(1), "l2": moved.norm(dim=1), "l0": (moved != 0).sum(1)}[attack.norm]
    assert (measure <= attack.eps * (1 + 1e-6)).all()
    assert torch.allclose(result.distance.double(), measure.double(), rtol=1e-5)
    with torch.no_grad():
        wrong = victim(result.adversarial).argmax(1) != truth
    assert torch.equal(wrong[3:], result.success[3:]) and result.success.any()
    assert (result.nearest.isfinite() >= result.success).all()
    assert (result.queries[3:] > 1).all()


@attacks
def test_success_grows_with_the_radius(make: Make, surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    rates = [int(make(factor)(surface, images, truth).success.sum()) for factor in (0.1, 1, 10)]
    assert rates == sorted(rates) and rates[0] < rates[-1]


@attacks
def test_an_example_depends_on_its_key_alone(make: Make, surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    attack, keys = make(0.5), torch.arange(24)
    whole = attack(surface, images, truth, keys=keys)
    some = torch.randperm(24, generator=torch.Generator().manual_seed(0))[:7]
    part = attack(surface, images[some], truth[some], keys=keys[some])
    assert torch.equal(part.success, whole.success[some])
    assert torch.allclose(part.adversarial, whole.adversarial[some], atol=1e-5)


@attacks
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_it_works_where_lightning_validates_and_leaves_no_trace(
    make: Make,
    around: Callable[[], AbstractContextManager[None]],
    victim: nn.Module,
    surface: LabelSurface,
    images: Tensor,
    truth: Tensor,
) -> None:
    victim[1].eval()
    for parameter in victim.parameters():
        parameter.grad = torch.ones_like(parameter)
    victim[5].bias.requires_grad_(False)
    state, flags = copy.deepcopy(victim.state_dict()), [module.training for module in victim.modules()]
    wanted, random = [p.requires_grad for p in victim.parameters()], torch.get_rng_state()
    with around():
        result = make(1)(surface, images, truth)
    assert result.success.any()
    assert all(torch.equal(value, state[name]) for name, value in victim.state_dict().items())
    assert [module.training for module in victim.modules()] == flags
    assert [p.requires_grad for p in victim.parameters()] == wanted
    assert all(p.grad is not None and torch.equal(p.grad, torch.ones_like(p)) for p in victim.parameters())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("make", [make for name, make in ATTACKS.items() if name != "pgd bfloat16"])
def test_under_bfloat16_everything_is_computed_and_judged_in_float32(
    make: Make, victim: nn.Module, images: Tensor, truth: Tensor
) -> None:
    seen: set[torch.dtype] = set()

    def classify(x: Tensor) -> Tensor:
        logits = victim(x)
        seen.update((x.dtype, logits.dtype))
        return logits

    surface, keys = LabelSurface(classify, (victim,), "abcd"), torch.arange(24)
    plain = make(0.5)(surface, images, truth, keys=keys)
    with torch.autocast("cpu", torch.bfloat16):
        low = make(0.5)(surface, images, truth, keys=keys)
    assert seen == {torch.float32}
    assert plain.success.any() and torch.equal(plain.success, low.success)
    assert torch.equal(plain.adversarial, low.adversarial)


@attacks
def test_logits_moved_by_a_constant_change_nothing(
    make: Make, victim: nn.Module, surface: LabelSurface, images: Tensor, truth: Tensor
) -> None:
    moved = LabelSurface(lambda x: victim(x) + 64, (victim,), "abcd")
    keys = torch.arange(24)
    plain, shifted = (make(0.5)(where, images, truth, keys=keys).success for where in (surface, moved))
    assert (plain == shifted).float().mean() >= 0.95  # rounding alone


@attacks
def test_colour_images_are_attacked_as_grey_ones_are(make: Make) -> None:
    """Their memory format may differ from the usual one inside an attack, and nothing may hang on it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 9, 4)).eval()
    images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        truth = net(images).argmax(1)
    result = make(3)(LabelSurface(net, (net,), "abcd"), images, truth, keys=torch.arange(8))
    with torch.no_grad():
        wrong = net(result.adversarial).argmax(1) != truth
    assert torch.equal(wrong, result.success) and result.success.any() and result.valid.all()


@attacks
def test_targeted_success_is_the_target(make: Make, surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    attack = make(6)
    attack.targeted = "next"
    result = attack(surface, images, truth, keys=torch.arange(24))
    victim = copy.deepcopy(surface.victims[0]).eval()
    with torch.no_grad():
        decided = victim(result.adversarial).argmax(1)
    assert torch.equal(decided == (truth + 1) % 4, result.success)
    assert result.success.any()
    assert attack.threat(surface).goal == "targeted"


@pytest.mark.parametrize("make", [ATTACKS[name] for name in GRADIENTS], ids=GRADIENTS)
def test_gradient_attacks_reach_the_border(make: Make, surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    attack = make(0.2)
    result = attack(surface, images * 0.5 + 0.25, truth)
    assert (result.distance[result.clean_right] > 0.95 * attack.eps).any()
