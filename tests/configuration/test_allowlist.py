"""No configuration can name code outside this package, however it is spelt."""

import math

import pytest

from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.threat import Radii
from securegan.configuration.allowlist import build, resolve
from securegan.errors import ConfigError


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "subprocess.run",
        "securegan",
        "securegan.",
        "securegan.attacks.os.system",
        "securegan.configuration.allowlist.importlib.import_module",
        "securegan.configuration.allowlist.importlib",
        "securegan.attacks.evasion.pgd.torch.load",
        "securegan.attacks.evasion.pgd.PGD.__init__",
        "securegan.attacks.evasion.pgd.PGD.threat",
        "securegan.attacks.evasion.pgd.__builtins__",
        "securegan.attacks.evasion.pgd.shielded",  # imported there, not defined there
        "securegan.attacks.evasion.pgd.Nothing",
        "securegan.no_such_module.Thing",
        "securegan_evil.payload.run",
        ".securegan.attacks",
        "securegan.attacks..pgd",
        "securegan/attacks/evasion/pgd.PGD",
        "",
        None,
        7,
        ["securegan.attacks.evasion.pgd.PGD"],
    ],
)
def test_refuses_everything_but_what_a_module_of_the_package_defines(target: object) -> None:
    with pytest.raises(ConfigError, match="is not allowed"):
        resolve(target)


def test_finds_the_class_itself() -> None:
    assert resolve("securegan.attacks.evasion.pgd.PGD") is PGD


def test_a_disguised_object_is_judged_by_where_it_was_defined(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    import securegan.attacks.evasion.pgd as module

    monkeypatch.setattr(module, "run", os.system, raising=False)
    monkeypatch.setattr(module, "walk", os.walk, raising=False)
    for name in ("run", "walk"):
        with pytest.raises(ConfigError, match="is not a class or function"):
            resolve(f"securegan.attacks.evasion.pgd.{name}")


def test_build_injects_positionals_and_converts_values() -> None:
    attack = build({"_target_": "securegan.attacks.evasion.pgd.PGD", "alpha": "2/255", "steps": 3}, Radii(0.125, 1.0))
    assert (attack.eps, attack.steps) == (0.125, 3)
    assert math.isclose(attack.alpha, 2 / 255)


@pytest.mark.parametrize(
    ("node", "word"),
    [
        ({"_target_": "securegan.attacks.evasion.pgd.PGD", "steps": 0}, "PGD.steps=0"),
        ({"_target_": "securegan.attacks.evasion.pgd.PGD", "stepz": 1}, "Did you mean 'steps'"),
        ({"_target_": "securegan.attacks.evasion.pgd.PGD", "radii": 1}, "PGD.radii"),
        ({"steps": 1}, "_target_=None"),
        ({}, "_target_=None"),
    ],
)
def test_build_refuses_what_the_constructor_does_not_offer(node: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        build(node, 0.1)
