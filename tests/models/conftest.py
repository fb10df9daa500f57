"""A GAN and a hybrid that can be stepped without a trainer, and a batch for it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from securegan.data.batch import Batch, DataSpec
from securegan.models.gan.lightning_model import GAN
from securegan.models.hybrid.lightning_model import Hybrid

NARROW = {"latent_dim": 8, "generator_width": 4, "discriminator_width": 4, "class_width": 4}


def _steppable(module: GAN) -> GAN:
    optimizers = module.configure_optimizers()
    module.optimizers = lambda: optimizers  # type: ignore[method-assign, assignment, return-value]
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, assignment, misc]
    module.augmented = lambda batch: batch  # type: ignore[method-assign]
    return module


@pytest.fixture
def without_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GAN, "trainer", property(lambda self: SimpleNamespace(world_size=1, current_epoch=0)))
    monkeypatch.setattr(GAN, "global_rank", property(lambda self: 0))


@pytest.fixture
def gan(without_trainer: None) -> Callable[..., GAN]:
    """``gan(classes, **settings)``: a narrow one of 32 grey pixels."""

    def make(classes: int = 3, **settings: Any) -> GAN:
        spec = DataSpec("test", 1, 32, classes, tuple("abc"[:classes]), 0.1, "d")
        return _steppable(GAN(spec, 0, **{**NARROW, **settings}))

    return make


@pytest.fixture
def hybrid(without_trainer: None) -> Callable[..., Hybrid]:
    """``hybrid(**settings)``: likewise, of three classes."""

    def make(**settings: Any) -> Hybrid:
        spec = DataSpec("test", 1, 32, 3, ("a", "b", "c"), 0.1, "d")
        return cast(Hybrid, _steppable(Hybrid(spec, 0, **{**NARROW, "encoder_width": 4, **settings})))

    return make


@pytest.fixture
def batch() -> Batch:
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (8,), generator=g)
    return Batch(torch.rand(8, 1, 32, 32, generator=g), labels, torch.arange(8))
