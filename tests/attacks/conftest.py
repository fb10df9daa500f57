"""A small classifier with everything that an attack could disturb, images, and the decisions that are right on them."""

import copy

import pytest
import torch
from sklearn.datasets import load_digits
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


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """Images ``(200, 1, 8, 8)`` of handwritten digits that :func:`digit_net` has not seen, and their labels."""
    return tuple(part[1400:1600] for part in _digits())  # type: ignore[return-value]


@pytest.fixture(scope="session")
def seen_digits() -> tuple[Tensor, Tensor]:
    """Images ``(600, 1, 8, 8)`` of those that :func:`digit_net` learnt from, and their labels."""
    return tuple(part[:600] for part in _digits())  # type: ignore[return-value]


@pytest.fixture(scope="session")
def digit_net() -> nn.Module:
    """A small convolutional network that reads the digits, frozen in evaluation mode."""
    return _reader(0)


@pytest.fixture(scope="session")
def other_digit_net() -> nn.Module:
    """As :func:`digit_net`, from other first weights and in another order."""
    return _reader(1)


def _reader(seed: int) -> nn.Module:
    x, y = (part[:1400] for part in _digits())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 10),
        )
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(12):
            for batch in torch.randperm(1400).split(100):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
                optimizer.step()
    return network.eval().requires_grad_(False)


def _digits() -> tuple[Tensor, Tensor]:
    loaded = load_digits()
    order = torch.randperm(len(loaded.images), generator=torch.Generator().manual_seed(0))
    return torch.tensor(loaded.images, dtype=torch.float32)[order, None] / 16, torch.tensor(loaded.target)[order]
