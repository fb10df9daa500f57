"""A GAN that can be stepped without a trainer, and a batch for it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from securegan.data.batch import Batch, DataSpec
from securegan.models.gan.lightning_model import GAN


@pytest.fixture
def gan(monkeypatch: pytest.MonkeyPatch) -> Callable[..., GAN]:
    """``gan(classes, **settings)``: a narrow one of 32 grey pixels."""
    monkeypatch.setattr(GAN, "trainer", property(lambda self: SimpleNamespace(world_size=1)))
    monkeypatch.setattr(GAN, "global_rank", property(lambda self: 0))
    narrow = {"latent_dim": 8, "generator_width": 4, "discriminator_width": 4, "class_width": 4}

    def make(classes: int = 3, **settings: Any) -> GAN:
        spec = DataSpec("test", 1, 32, classes, tuple("abc"[:classes]), 0.1, "d")
        module = GAN(spec, 0, **{**narrow, **settings})
        optimizers = module.configure_optimizers()
        module.optimizers = lambda: optimizers  # type: ignore[method-assign, assignment, return-value]
        module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, assignment, misc]
        module.augmented = lambda batch: batch  # type: ignore[method-assign]
        return module

    return make


@pytest.fixture
def batch() -> Batch:
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (8,), generator=g)
    return Batch(torch.rand(8, 1, 32, 32, generator=g), labels, torch.arange(8))
