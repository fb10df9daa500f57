"""The suite: the worst case per example, and each next attack on what survived alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.engine import Attack, Memory
from securegan.attacks.evasion.fgsm import FGSM
from securegan.attacks.evasion.suite import Suite
from securegan.attacks.supplies import Supplies
from securegan.attacks.surfaces import AuthenticitySurface, LabelSurface, Surface
from securegan.attacks.threat import AttackResult

EPS = 0.05


class Recorded(Memory):
    """Runs attacks, and remembers on what."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, Tensor, AttackResult]] = []

    def run(self, attack: Attack, *args: Any, keys: Tensor | None, **kwargs: Any) -> AttackResult:
        result = super().run(attack, *args, keys=keys, **kwargs)
        assert keys is not None
        self.runs.append((attack.name, keys, result))
        return result


def test_each_attack_sees_what_survived_and_an_example_is_lost_if_any_wins(
    surface: LabelSurface, images: Tensor, truth: Tensor
) -> None:
    suite = Suite(
        eps=EPS, attacks=["fgsm", "apgd_ce", "apgd_targeted", "square"], steps=10, target_classes=3, queries=50
    )
    memory = Recorded()
    suite.prepare(surface, Supplies(memory))
    result = suite(surface, images, truth, keys=torch.arange(24))
    assert [name for name, _, _ in memory.runs] == ["fgsm", "apgd", "apgd", "square"]
    survivors, queries = set(range(24)), torch.ones(24, dtype=torch.int64)
    for _, keys, part in memory.runs:
        assert set(keys.tolist()) == survivors
        survivors -= set(keys[part.success].tolist())
        queries[keys] += part.queries
    lost = set(result.success.nonzero().squeeze(1).tolist())
    assert lost == set(range(24)) - survivors and 0 < len(lost) < 24
    assert torch.equal(result.queries, queries)


def test_it_is_no_weaker_than_any_of_its_members(surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    suite = Suite(eps=EPS, steps=10, target_classes=3, queries=50)
    together = suite(surface, images, truth, keys=torch.arange(24)).success
    for name, member in suite.members().items():
        alone = member(surface, images, truth, purpose=("attack", name), keys=torch.arange(24)).success
        assert (together | ~alone).all(), name


def test_what_the_suite_is_supplied_with_its_members_are(
    surface: LabelSurface, images: Tensor, truth: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asking(FGSM):
        def prepare(self, surface: Surface, supplies: Supplies) -> None:
            got.append((surface.name, supplies))

    got: list[tuple[str, Supplies]] = []
    monkeypatch.setattr(Suite, "_member", lambda self, name: Asking(eps=EPS))
    suite, supplies = Suite(eps=EPS, attacks=["fgsm"]), Supplies(seed=3)
    suite.prepare(surface, supplies)
    suite.at(0.5)(surface, images, truth)
    assert got == [("label", supplies)]


def test_what_is_not_defined_on_a_surface_is_left_out() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    surface = AuthenticitySurface(lambda x: net(x).squeeze(1), 0.0, (net,))
    suite = Suite(eps=0.3, attacks=["apgd_targeted", "apgd_dlr"], steps=5)
    memory = Recorded()
    suite.prepare(surface, Supplies(memory))
    x = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    real = (net(x).squeeze(1) > 0).long()
    assert suite(surface, x, real, keys=torch.arange(8)).success.any()
    assert [part.success.any().item() for _, _, part in memory.runs] == [False, True]
