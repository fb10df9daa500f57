"""Sums and rows over the ranks of a distributed run; without one, every function is the identity.

Every rank must call these in the same order: a collective that one rank skips hangs all the others.
"""

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def world() -> tuple[int, int]:
    """``(rank, world_size)``, which is ``(0, 1)`` outside a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def shard(n_items: int) -> range:
    """This rank's share of ``range(n_items)``: every ``world_size``-th item, none twice, none left out."""
    rank, size = world()
    return range(rank, n_items, size)


def all_sum(tensor: Tensor) -> Tensor:
    """The sum over ranks as a new float64 (or, for integers and booleans, int64) tensor on the given device."""
    wide = torch.float64 if tensor.is_floating_point() else torch.int64
    if world()[1] == 1:
        return tensor.detach().to(wide, copy=True)
    total = tensor.detach().to(_collective_device(tensor), wide, copy=True).contiguous()
    dist.all_reduce(total)
    return total.to(tensor.device)


def gather_rows(tensor: Tensor, order: Tensor | None = None) -> Tensor:
    """The rows of all ranks on every rank.

    Args:
        tensor: ``(n, ...)`` of any dtype; ranks may hold different numbers of rows, also none, of one shape.
        order: ``(n,)`` int64 sorting key per row. With it the result does not depend on the number of ranks;
            without it the rows of rank 0 come first, then those of rank 1 and so on.

    Returns:
        ``(sum of n, ...)`` on the device of ``tensor``.
    """
    rows = _concatenate(tensor.detach())
    if order is None:
        return rows
    return rows[torch.argsort(_concatenate(order), stable=True)]


def _concatenate(tensor: Tensor) -> Tensor:
    _, size = world()
    if size == 1:
        return tensor.clone()
    device = _collective_device(tensor)
    lengths = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(size)]
    dist.all_gather(lengths, torch.tensor([len(tensor)], device=device))
    counts = [int(length) for length in lengths]
    wire = torch.uint8 if tensor.dtype == torch.bool else tensor.dtype  # not every backend carries booleans
    flat = tensor.to(device, wire).reshape(len(tensor), math.prod(tensor.shape[1:]))
    padded = F.pad(flat, (0, 0, 0, max(counts) - len(flat))).contiguous()
    received = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(received, padded)
    rows = torch.cat([part[:count] for part, count in zip(received, counts, strict=True)])
    return rows.reshape(-1, *tensor.shape[1:]).to(tensor.device, tensor.dtype)


def _collective_device(tensor: Tensor) -> torch.device:
    """Where the process group can work on a tensor: NCCL needs the current GPU, gloo the CPU."""
    backend = str(dist.get_backend())
    if "gloo" in backend:
        return torch.device("cpu")
    if "nccl" in backend:
        return torch.device("cuda", torch.cuda.current_device())
    return tensor.device
