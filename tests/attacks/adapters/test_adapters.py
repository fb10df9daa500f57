"""Other libraries' attacks: judged by us, without a trace, and one sentence where they are not there."""

import copy
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.adapters import base
from securegan.attacks.adapters.art import ART
from securegan.attacks.adapters.base import AdaptedAttack, Victim
from securegan.attacks.adapters.foolbox import Foolbox
from securegan.attacks.adapters.torchattacks import Torchattacks
from securegan.attacks.spaces import PixelSpace
from securegan.attacks.surfaces import LabelSurface
from securegan.errors import ConfigError

KINDS: list[type[Any]] = [ART, Foolbox, Torchattacks]
EPS = 0.1
PGD: dict[str, dict[str, Any]] = {  # ten steps of each library's
    "art": {"parameters": {"max_iter": 10, "eps_step": 0.025, "num_random_init": 1}},
    "foolbox": {"parameters": {"steps": 10, "rel_stepsize": 0.25}},
    "torchattacks": {"parameters": {"steps": 10, "alpha": 0.025}},
}
NEAREST = {  # a class without a radius, and its norm
    "art": ("DeepFool", "l2"),
    "foolbox": ("L2DeepFoolAttack", "l2"),
    "torchattacks": ("DeepFool", "l2"),
}

every = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


class Pretended(AdaptedAttack):
    """Stands in for a library: moves every value by a given amount, and draws from every global generator."""

    name = "pretended"
    package = "torch"

    def __init__(self, *, move: float = 0.0, **of_every_adapter: Any) -> None:
        super().__init__(attack="Linear", **of_every_adapter)
        self.move, self.drawn = move, []  # type: ignore[var-annotated]

    @classmethod
    def classes(cls) -> dict[str, type]:
        return {"Linear": Settings}

    def run(self, victim: Victim, images: Tensor, labels: Tensor, *, eps: float, targeted: bool) -> Tensor:
        self.drawn.append((float(torch.rand(())), float(np.random.rand()), random.random()))
        return images + self.move


class Settings:
    def __init__(self, model: object, eps: float, steps: int = 3) -> None: ...


@every
def test_a_library_that_is_missing_is_named_with_its_extra(
    kind: type[AdaptedAttack], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    said = rf"attack={kind.name} needs {kind.package}, not installed here: pip install 'securegan\[adapters\]'"
    with pytest.raises(ConfigError, match=said):
        kind(eps=EPS)


def test_names_and_settings_that_do_not_exist_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"attack\.parameters\.stepz is not a setting.*eps, steps.*Did you mean 'steps'"
    ):
        Pretended(eps=EPS, parameters={"stepz": 3})
    with pytest.raises(ConfigError, match=r"attack\.attack=Linaer is not allowed.*Did you mean 'Linear'"):
        AdaptedAttack.__init__(Pretended.__new__(Pretended), attack="Linaer", eps=EPS)


def test_what_lies_beyond_the_radius_is_no_success_and_is_not_pulled_back(
    surface: LabelSurface, images: Tensor, truth: Tensor
) -> None:
    images = 0.3 + 0.4 * images
    with torch.no_grad():
        truth = copy.deepcopy(surface.victims[0]).eval()(images).argmax(1)
    result = Pretended(eps=0.01, move=0.3)(surface, images, truth)
    assert not result.success.any() and not result.valid.all()
    assert torch.allclose(result.distance[~result.valid], torch.tensor(0.3))


def test_rounding_alone_costs_no_validity() -> None:
    origin = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0)) ** 0.7  # off the draws' grid
    ball = PixelSpace().ball(origin, 2 / 255, "linf")
    moved = (origin + 2 / 255).clamp(0, 1)
    assert not ball.valid(moved).all() and ball.valid(base.without_rounding(ball, moved)).all()
    far = origin + 2 / 255 + 1e-5
    assert torch.equal(base.without_rounding(ball, far), far)


def test_draws_repeat_and_leave_the_global_generators_alone(
    surface: LabelSurface, images: Tensor, truth: Tensor
) -> None:
    attack = Pretended(eps=EPS)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[union-attr]
    for purpose in ("a", "a", "b"):
        attack(surface, images, truth, purpose=(purpose,))
    assert attack.drawn[0] == attack.drawn[1] != attack.drawn[2]
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[2]
    assert np.array_equal(np.random.get_state()[1], states[1])  # type: ignore[index]


@pytest.mark.peers
@every
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_pgd_of_each_library_succeeds_and_leaves_no_trace(
    kind: type[AdaptedAttack],
    around: Callable[[], AbstractContextManager[None]],
    victim: nn.Module,
    surface: LabelSurface,
    images: Tensor,
    truth: Tensor,
) -> None:
    pytest.importorskip(kind.package)
    victim[1].eval()
    for parameter in victim.parameters():
        parameter.grad = torch.ones_like(parameter)
    state, flags = copy.deepcopy(victim.state_dict()), [module.training for module in victim.modules()]
    drawn = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[union-attr]
    with around():
        attack = kind(eps=EPS, **PGD[kind.name])
        result = attack(surface, images, truth)
    assert result.valid.all() and result.success.float().mean() > 0.3
    assert result.distance.max() <= EPS * (1 + 1e-6) and (result.queries > 5).all()
    twin = copy.deepcopy(victim).eval()
    with torch.no_grad():
        assert torch.equal(twin(result.adversarial).argmax(1) != truth, result.success)
    assert all(torch.equal(value, state[name]) for name, value in victim.state_dict().items())
    assert [module.training for module in victim.modules()] == flags
    assert all(p.requires_grad for p in victim.parameters())
    assert all(p.grad is not None and torch.equal(p.grad, torch.ones_like(p)) for p in victim.parameters())
    assert torch.equal(torch.get_rng_state(), drawn[0]) and random.getstate() == drawn[2]
    assert np.array_equal(np.random.get_state()[1], drawn[1])  # type: ignore[index]
    again = attack(surface, images, truth)
    assert torch.equal(again.adversarial, result.adversarial)


@pytest.mark.peers
@every
def test_targeted_success_is_the_target(
    kind: type[AdaptedAttack], surface: LabelSurface, images: Tensor, truth: Tensor
) -> None:
    pytest.importorskip(kind.package)
    result = kind(eps=5 * EPS, targeted="next", **PGD[kind.name])(surface, images, truth)
    with torch.no_grad():
        decided = copy.deepcopy(surface.victims[0]).eval()(result.adversarial).argmax(1)
    assert torch.equal(decided == (truth + 1) % 4, result.success) and result.success.any()


@pytest.mark.peers
@every
def test_a_class_without_a_radius_gives_the_nearest_success(
    kind: type[AdaptedAttack], surface: LabelSurface, images: Tensor, truth: Tensor
) -> None:
    pytest.importorskip(kind.package)
    name, norm = NEAREST[kind.name]
    near, wide = (kind(attack=name, norm=norm, eps=eps)(surface, images, truth) for eps in (0.3, 50.0))
    assert near.valid.all() and wide.success.sum() > near.success.sum()
    assert torch.equal(wide.nearest <= 0.3, near.success)


@pytest.mark.peers
@every
def test_a_misspelt_class_is_answered_with_the_near_match(kind: type[AdaptedAttack]) -> None:
    pytest.importorskip(kind.package)
    name = kind(eps=EPS).attack
    with pytest.raises(ConfigError, match=rf"attack\.attack={name[:-1]}x is not allowed.*Did you mean '{name}'"):
        kind(eps=EPS, attack=f"{name[:-1]}x")


@pytest.mark.peers
def test_foolbox_says_which_norm_a_class_measures() -> None:
    pytest.importorskip("foolbox")
    with pytest.raises(ConfigError, match=r"attack\.norm=linf does not suit L2PGD of foolbox, which measures L2"):
        Foolbox(eps=EPS, attack="L2PGD")
