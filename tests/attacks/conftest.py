"""A small classifier with everything that an attack could disturb, images, and the decisions that are right on them."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from securegan.attacks.surfaces import LabelSurface


@pytest.fixture
def victim() -> nn.Module:
    """In training mode, with spectral norm, batch norm and dropout: ``(N, 1, 8, 8)`` to four classes."""
    torch.manual_seed(0)
    return nn.Sequential(
        spectral_norm(nn.Conv2d(1, 8, 3, stride=2, padding=1)),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(8 * 16, 4),
    )


@pytest.fixture
def images() -> Tensor:
    return torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def surface(victim: nn.Module) -> LabelSurface:
    return LabelSurface(victim, (victim,), "abcd")


@pytest.fixture
def truth(victim: nn.Module, images: Tensor) -> Tensor:
    """The victim's own decisions in evaluation mode: every clean decision is right."""
    twin = copy.deepcopy(victim).eval()
    with torch.no_grad():
        return twin(images).argmax(1)
