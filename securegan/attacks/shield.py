"""Work on a victim's networks without leaving a trace.

Inside :func:`shielded` the networks are in evaluation mode with frozen weights, gradients flow to inputs even under
Lightning's no-grad or inference mode, and autocast is off: attack gradients and judgements are float32. On leaving,
parameters' ``requires_grad`` and ``.grad``, every buffer and every submodule's train/eval flag are as before; torch's
global generator is never drawn from here.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from securegan.judges.precision import full_float32


@contextmanager
def shielded(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Freeze ``networks`` for attacks and judgements, and put everything back afterwards."""
    modules = [module for network in networks for module in network.modules()]
    parameters = [parameter for network in networks for parameter in network.parameters()]
    buffers = [buffer for network in networks for buffer in network.buffers()]
    modes = [module.training for module in modules]
    wanted = [parameter.requires_grad for parameter in parameters]
    kept_buffers = [buffer.detach().clone() for buffer in buffers]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in {"cpu", *(parameter.device.type for parameter in parameters)}:
            stack.enter_context(full_float32(device))
        stack.enter_context(parametrize.cached())  # spectral norm's weights are computed once an attack
        for module in modules:
            module.training = False
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
            for parameter, flag in zip(parameters, wanted, strict=True):
                parameter.requires_grad_(flag)
            _restore(buffers, kept_buffers)


def _restore(buffers: Sequence[Tensor], kept: Sequence[Tensor]) -> None:
    """Write back only what changed: an untouched buffer keeps its autograd version."""
    with torch.no_grad():
        for buffer, before in zip(buffers, kept, strict=True):
            if not torch.equal(buffer, before):
                buffer.copy_(before)
