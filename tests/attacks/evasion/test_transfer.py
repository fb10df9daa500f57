"""Transfer: what reaches the victim is made against the surrogate alone, and the victim is asked once a restart."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.evasion.transfer import Transfer
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import Assessment, LabelSurface, Objective
from securegan.data.batch import DataSpec
from securegan.errors import ConfigError
from securegan.evaluation.surfaces import check_surfaces
from securegan.models.gan.lightning_model import GAN

NAMES = [str(k) for k in range(10)]
EPS = 0.15


class Oracle(LabelSurface):
    """Answers without gradients and keeps every batch that it was asked about."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net, (net,), NAMES)
        self.asked: list[Tensor] = []

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        self.asked.append(x.detach().clone())
        view = super().assess(x.detach(), reference, objective)
        return Assessment(torch.zeros_like(view.margin), view.margin, view.right)


def surface_of(net: nn.Module) -> LabelSurface:
    return LabelSurface(net, (net,), NAMES)


def transfer(source: LabelSurface, **settings: Any) -> Transfer:
    attack = Transfer(eps=EPS, **settings)
    attack.prepare(source, Supplies(surrogate=source))
    return attack


@pytest.fixture
def half(digits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return digits[0][:100], digits[1][:100]


def test_it_finds_less_than_the_white_box_and_far_more_than_nothing(
    digit_net: nn.Module, other_digit_net: nn.Module, half: tuple[Tensor, Tensor]
) -> None:
    white = PGD(eps=EPS, restarts=2)(surface_of(digit_net), *half).success
    black = transfer(surface_of(other_digit_net), restarts=2)(Oracle(digit_net), *half)
    assert 0.15 * len(white) < black.success.sum() < white.sum()
    assert black.valid.all()


def test_with_the_victim_as_surrogate_it_succeeds_as_pgd_does(
    digit_net: nn.Module, half: tuple[Tensor, Tensor]
) -> None:
    eps = 0.08
    white = PGD(eps=eps, restarts=2, objectives=("ce",), momentum=1.0)(surface_of(digit_net), *half).success
    attack = transfer(surface_of(digit_net), restarts=2)
    attack.eps = eps
    black = attack(Oracle(digit_net), *half).success
    assert 10 < white.sum() < 90 and abs(int(white.sum()) - int(black.sum())) <= 1


def test_the_victim_is_asked_once_a_restart_and_sees_the_ends_of_searches_on_the_surrogate(
    digit_net: nn.Module, other_digit_net: nn.Module, half: tuple[Tensor, Tensor]
) -> None:
    x, y = half
    oracle = Oracle(digit_net)
    result = transfer(surface_of(other_digit_net), restarts=3)(oracle, x, y, keys=torch.arange(100))
    right = result.clean_right
    assert right.sum() < 100  # the rest is asked about once, as it is
    assert torch.equal(result.queries, torch.where(right, 1 + 3, 1))
    shown = [batch for batch in oracle.asked if len(batch) == right.sum()]
    with torch.no_grad():
        on_surrogate = [other_digit_net(batch).argmax(1) != y[right] for batch in shown]
        on_victim = torch.stack([digit_net(batch).argmax(1) != y[right] for batch in shown]).any(0)
    assert len(shown) == 3 and not torch.equal(shown[0], shown[1])
    assert all(wrong.float().mean() > 0.8 for wrong in on_surrogate)
    assert torch.equal(result.success[right], on_victim)


def test_what_is_shown_has_the_highest_surrogate_margin_of_its_search(
    digit_net: nn.Module, half: tuple[Tensor, Tensor]
) -> None:
    """With steps wider than the radius the last point is often not the best."""

    class Watched(LabelSurface):
        def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
            view = super().assess(x, reference, objective)
            margins.append(view.margin)
            return view

    margins: list[Tensor] = []
    x, y = half[0][:8], half[1][:8]
    oracle = Oracle(digit_net)
    transfer(Watched(digit_net, (digit_net,), NAMES), restarts=1, steps=6, alpha=0.2)(oracle, x, y)
    highest = torch.stack(margins).amax(0)
    with torch.no_grad():
        shown = surface_of(digit_net).assess(oracle.asked[-1], y, "margin").margin
    assert torch.allclose(shown, highest, atol=1e-5)


def test_surrogate_and_victim_stay_as_they_were(victim: nn.Module, images: Tensor, truth: Tensor) -> None:
    surrogate = copy.deepcopy(victim)
    with torch.no_grad():
        surrogate[5].weight.mul_(-1)
    victim[1].eval()
    networks = (victim, surrogate)
    states = [copy.deepcopy(network.state_dict()) for network in networks]
    flags = [[module.training for module in network.modules()] for network in networks]
    attack = Transfer(eps=0.3, steps=4, restarts=2)
    attack.surrogate_surface = LabelSurface(surrogate, (surrogate,), "abcd")
    with torch.inference_mode():
        result = attack(LabelSurface(victim, (victim,), "abcd"), images, truth)
    assert (result.queries == 3).all()
    for network, state, modes in zip(networks, states, flags, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
        assert [module.training for module in network.modules()] == modes
        assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_a_target_is_aimed_at_on_the_surrogate_too(
    digit_net: nn.Module, other_digit_net: nn.Module, half: tuple[Tensor, Tensor]
) -> None:
    attack = transfer(surface_of(other_digit_net), restarts=1, targeted=3)
    attack.eps = 0.4
    result = attack(surface_of(digit_net), *half)
    with torch.no_grad():
        assert torch.equal(
            digit_net(result.adversarial).argmax(1)[result.clean_right] == 3, result.success[result.clean_right]
        )
    assert result.success.sum() > 20
    assert attack.threat(surface_of(digit_net)).knowledge == "transfer"


def test_another_surrogate_is_another_attack_on_disk(digit_net: nn.Module, other_digit_net: nn.Module) -> None:
    one, same, other = (transfer(surface_of(net)).settings() for net in (digit_net, digit_net, other_digit_net))
    assert one == same and one != other


def test_without_a_surrogate_of_the_same_classes_it_says_so(digit_net: nn.Module, half: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="decides among 10 classes"):
        Transfer(eps=EPS)(surface_of(digit_net), *half)
    with pytest.raises(ValueError, match="decides among 10 classes"):
        transfer(LabelSurface(digit_net, (digit_net,), "ab"))(surface_of(digit_net), *half)


def test_it_is_for_class_heads_alone() -> None:
    widths = {"generator_width": 4, "discriminator_width": 4, "class_width": 4}
    gan = GAN(DataSpec("two", 1, 32, 2, ("real", "manipulated"), 0.1, ""), 0, latent_dim=4, **widths)
    assert check_surfaces(Transfer(eps=EPS), gan) == ("label",)
    for name in ("authenticity", "latent"):
        with pytest.raises(
            ConfigError, match=rf"attack\.surfaces={name} is not possible: transfer .*\['label'\]|expected"
        ):
            check_surfaces(Transfer(eps=EPS, surfaces=["label", name]), gan)
