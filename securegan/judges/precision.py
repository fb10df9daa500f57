"""Judgements and figures are plain float32, whatever precision a run trains in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_float32(device_type: str) -> Iterator[None]:
    """No autocast, no TF32 and no bfloat16 inside float32 products, on CPU and CUDA; as it was on leaving.

    cuDNN convolves in TF32 unless told otherwise, and ``torch.set_float32_matmul_precision("medium")``, which
    Lightning recommends on GPUs with tensor cores, leaves a matrix product eight bits of mantissa.
    """
    backends: Any = torch.backends  # their members are made at import, which type checkers do not see
    switches = (
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.cudnn.rnn,  # torch's older flag for all of cuDNN cannot be read while this one differs
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    )
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision
