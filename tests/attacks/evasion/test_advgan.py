"""AdvGAN: on images that its generator has not seen it beats noise by far and no search by gradients."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.engine import random_perturbation, start_noise
from securegan.attacks.evasion.advgan import AdvGAN
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.reconstruction import ReconstructionSurface
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import AuthenticitySurface, LabelSurface, Surface
from securegan.attacks.threat import Norm
from securegan.errors import ConfigError

NAMES = [str(k) for k in range(10)]
Images = tuple[Tensor, Tensor]


@pytest.fixture
def surface(digit_net: nn.Module) -> LabelSurface:
    return LabelSurface(digit_net, (digit_net,), NAMES)


def supplied(images: Tensor, reference: Tensor, seed: int = 0) -> Supplies:
    return Supplies(images=lambda split, limit: (images[:limit], reference[:limit]), seed=seed)


def prepared(surface: Surface, images: Tensor, reference: Tensor, **settings: Any) -> AdvGAN:
    attack = AdvGAN(**{"eps": 0.15, "epochs": 8, **settings})
    attack.prepare(surface, supplied(images, reference))
    return attack


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.15), ("l2", 0.8)])
def test_on_images_not_seen_it_beats_noise_by_far_and_stays_below_pgd(
    surface: LabelSurface, digits: Images, seen_digits: Images, norm: Norm, eps: float
) -> None:
    x, y = digits
    attack = prepared(surface, *seen_digits, norm=norm, eps=eps)
    result = attack(surface, x, y, keys=torch.arange(len(x)))
    noise = start_noise(x, norm, ("noise",), None)
    by_noise = random_perturbation(surface, x, y, surface.space.ball(x, eps, norm), noise)[1] & result.clean_right
    by_pgd = PGD(norm=norm, eps=eps, restarts=1)(surface, x, y).success
    assert 3 * by_noise.sum() < result.success.sum() < by_pgd.sum()
    assert result.valid.all() and result.distance.max() <= eps * (1 + 1e-6)
    assert torch.equal(result.queries, torch.where(result.clean_right, 2, 1))


def test_it_is_trained_once_and_the_same_again(
    surface: LabelSurface, digits: Images, seen_digits: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[float] = []
    train = AdvGAN._train

    def counted(self: AdvGAN, *args: Any) -> nn.Module:
        trained.append(self.eps)
        return train(self, *args)

    monkeypatch.setattr(AdvGAN, "_train", counted)
    x, y = digits
    random = torch.get_rng_state()
    attack = prepared(surface, *seen_digits, epochs=1)
    first = attack(surface, x[:50], y[:50]).adversarial
    again = attack(surface, x[:50], y[:50], purpose=("other",), keys=torch.arange(50)).adversarial
    assert torch.equal(first, again) and trained == [0.15]
    part = attack(surface, x[20:27], y[20:27]).adversarial
    assert torch.allclose(part, first[20:27], atol=1e-5)
    assert torch.equal(prepared(surface, *seen_digits, epochs=1)(surface, x[:50], y[:50]).adversarial, first)
    attack.at(2.0)(surface, x[:50], y[:50])
    attack.at(2.0)(surface, x[:50], y[:50])
    assert trained == [0.15, 0.15, 0.3]
    attack.prepare(surface, supplied(*seen_digits, seed=1))
    assert not torch.equal(attack(surface, x[:50], y[:50]).adversarial, first)
    assert torch.equal(torch.get_rng_state(), random)


def test_nothing_of_the_victim_changes(victim: nn.Module, images: Tensor, truth: Tensor) -> None:
    for parameter in victim.parameters():
        parameter.grad = torch.ones_like(parameter)
    victim[1].eval()
    state, flags = copy.deepcopy(victim.state_dict()), [module.training for module in victim.modules()]
    surface = LabelSurface(victim, (victim,), "abcd")
    with torch.inference_mode():
        learnt = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        attack = prepared(surface, learnt, torch.arange(20) % 4, epochs=2)
        attack(surface, images, truth)
    assert all(torch.equal(value, state[name]) for name, value in victim.state_dict().items())
    assert [module.training for module in victim.modules()] == flags
    assert all(p.requires_grad and torch.equal(p.grad, torch.ones_like(p)) for p in victim.parameters())


def test_radius_zero_changes_nothing(surface: LabelSurface, digits: Images, seen_digits: Images) -> None:
    result = prepared(surface, *seen_digits, eps=0.0, epochs=1)(surface, *digits)
    assert torch.equal(result.adversarial, digits[0]) and not result.success.any()


def test_a_target_is_learnt(surface: LabelSurface, digits: Images, seen_digits: Images, digit_net: nn.Module) -> None:
    attack = prepared(surface, *seen_digits, eps=0.4, targeted=3)
    result = attack(surface, *digits)
    wrong_class = digits[1] != 3
    with torch.no_grad():
        reached = digit_net(result.adversarial).argmax(1) == 3
    assert torch.equal(reached & result.clean_right, result.success)
    assert result.success.sum() > 0.5 * wrong_class.sum()
    with pytest.raises(ConfigError, match=r"attack\.targeted=next is not possible with advgan.*class by number"):
        AdvGAN(eps=0.1, targeted="next")


def test_a_bound_shortens_and_the_discriminator_changes_what_is_learnt(
    surface: LabelSurface, digits: Images, seen_digits: Images
) -> None:
    def length(**settings: Any) -> float:
        moved = prepared(surface, *seen_digits, epochs=3, **settings)(surface, *digits).adversarial
        return float((moved - digits[0]).flatten(1).norm(dim=1).mean())

    free = length()
    assert length(bound=0.2, hinge_weight=20.0) < 0.7 * free
    assert length(gan_weight=50.0) < 0.9 * free


def test_real_and_generated_images_are_attacked_on_authenticity(digits: Images, seen_digits: Images) -> None:
    x, learnt = digits[0][:40], seen_digits[0][:200]
    torch.manual_seed(0)
    score = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(36, 1))
    with torch.no_grad():
        middle = float(score(x).median())
        sides = [(score(images).squeeze(1) > middle).long() for images in (x, learnt)]
    authenticity = AuthenticitySurface(lambda images: score(images).squeeze(1), middle, (score,))
    found = prepared(authenticity, learnt, sides[1])(authenticity, x, sides[0])
    for side in (0, 1):
        assert found.success[sides[0] == side].any()


def test_reconstructions_are_attacked_too(digits: Images, seen_digits: Images) -> None:
    x, learnt = digits[0][:40], seen_digits[0]
    steep = nn.Sigmoid()
    surface = ReconstructionSurface(lambda images, _: steep(20 * images - 10), learnt.mean(0), (steep,))
    asked = surface.hold(x, torch.full((len(x),), -1))
    of_learnt = surface.hold(learnt, torch.full((len(learnt),), -1))
    result = prepared(surface, learnt, of_learnt, eps=0.3, epochs=12)(surface, x, asked)
    ball, noise = surface.space.ball(x, 0.3, "linf"), start_noise(x, "linf", ("noise",), None)
    by_noise = random_perturbation(surface, x, asked, ball, noise)[1]
    assert result.clean_right.all() and result.success.float().mean() > 0.4
    assert result.success.sum() > 1.5 * by_noise.sum()


def test_a_detector_is_not_learnt() -> None:
    with pytest.raises(ConfigError, match=r"attack\.adaptive=true is not possible with advgan"):
        AdvGAN(eps=0.1, adaptive=True)


def test_without_images_to_learn_from_it_says_so(surface: LabelSurface, digits: Images) -> None:
    with pytest.raises(ValueError, match="call prepare first"):
        AdvGAN(eps=0.1)(surface, *digits)
