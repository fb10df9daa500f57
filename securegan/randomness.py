"""Randomness as a function of (seed, purpose, ...), never a state.

Batch order, latents, augmentation, attack starts and metric sampling all come from here. Nothing draws from torch's
global generator, so resuming needs no generator state and measuring never changes training. All draws are made on the
CPU and moved, so a figure does not depend on the device.
"""

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """A stable 63-bit seed from ints and strings; different parts give unrelated seeds."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by :func:`seed_of` of ``parts``."""
    return torch.Generator().manual_seed(seed_of(*parts))


def normal(shape: Sequence[int], *parts: int | str) -> Tensor:
    """Standard normal float32 draws of ``shape`` for ``parts``."""
    return torch.randn(*shape, generator=generator(*parts))


def integers(high: int, n: int, *parts: int | str) -> Tensor:
    """``n`` uniform int64 draws from ``[0, high)`` for ``parts``."""
    return torch.randint(high, (n,), generator=generator(*parts))


def choices(shares: Sequence[float], n: int, *parts: int | str) -> Tensor:
    """``n`` int64 draws for ``parts``, each i with the i-th of ``shares``, which sum to 1."""
    drawn = torch.rand(n, generator=generator(*parts), dtype=torch.float64)
    borders = torch.tensor(shares, dtype=torch.float64).cumsum(0)
    return torch.searchsorted(borders, drawn, right=True).clamp_max(len(shares) - 1)


def permutation(n: int, *parts: int | str) -> Tensor:
    """A permutation of ``range(n)`` as int64 for ``parts``."""
    return torch.randperm(n, generator=generator(*parts))
