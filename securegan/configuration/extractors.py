"""``metrics.extractors``: which networks, beside the judge and the reference Inception, give features to score in."""

import re
from pathlib import Path
from typing import NamedTuple

from securegan.errors import ConfigError

_WRITTEN = re.compile(r"(?:(judge)|torchvision:(\w+)):(.+)")


class ExtractorName(NamedTuple):
    """``torchvision:<network>:<weights file>``, or ``judge:<file>`` for the judge of another data set."""

    network: str  # of torchvision, or ``judge``
    path: Path

    @classmethod
    def parse(cls, written: str) -> "ExtractorName":
        """Raises ConfigError where ``written`` is of neither form."""
        match = _WRITTEN.fullmatch(written)
        if match is None:
            raise ConfigError(
                f"metrics.extractors=[{written}] is not allowed: expected entries torchvision:NETWORK:WEIGHTS, such as "
                "torchvision:resnet18:resnet18.safetensors, or judge:FILE."
            )
        return cls(match[1] or match[2], Path(match[3]))

    def __str__(self) -> str:
        return f"judge:{self.path}" if self.network == "judge" else f"torchvision:{self.network}:{self.path}"
