"""A torch and torchvision that cannot work together are named in one sentence."""

import importlib

import pytest

from securegan.errors import UserError
from securegan.installation import check_installation


def test_the_installed_pair_fits() -> None:
    check_installation()


def test_a_broken_pair_is_named_with_its_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(UserError, match=r"torch .* and torchvision .*nms does not exist.*install both anew"):
        check_installation()
