"""What is kept off the terminal, and what is not."""

import warnings

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from securegan.models.gan.penalties import squared_slopes
from securegan.runs.quiet import quieten


def test_penalties_on_channels_last_weights_say_nothing_in_ddp() -> None:
    """A second backward leaves gradients of one input channel in another layout than the weights; DDP copies them."""
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Softplus()).to(memory_format=torch.channels_last)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(network)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            quieten()
            x = torch.rand(2, 1, 8, 8)
            loss = wrapped(x).sum() + squared_slopes(lambda images, _: network(images).mean((1, 2, 3)), x, None).sum()
            loss.backward()
            warnings.warn("something else", stacklevel=1)
    finally:
        dist.destroy_process_group()
    assert [str(one.message) for one in said] == ["something else"]
