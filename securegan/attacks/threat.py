"""The threat model that stands beside every figure, and what an attack gives back."""

from dataclasses import asdict, dataclass
from typing import Literal

from torch import Tensor

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class ThreatModel:
    """Who attacks, where, how far and knowing what (Carlini et al. 2019, arXiv 1902.06705, section 2)."""

    norm: Norm
    eps: float  # pixels: units of [0, 1]; latents: standard deviations of the prior
    space: Literal["pixels", "latent"]
    goal: Literal["untargeted", "targeted"] = "untargeted"
    knowledge: Literal["white box", "transfer", "score", "decision"] = "white box"
    adaptive: bool = False  # whether the adversary attacks through the detector as well

    def as_dict(self) -> dict[str, object]:
        """Plain values for a run's protocol."""
        return asdict(self)


@dataclass(frozen=True)
class AttackResult:
    """Per-example outcome of an attack on N inputs."""

    adversarial: Tensor  # inputs' shape; equal to the input where the clean decision was wrong
    success: Tensor  # (N,) bool: right before, wrong after, and valid
    clean_right: Tensor  # (N,) bool: the decision on the clean input was right
    valid: Tensor  # (N,) bool: within eps and the space's bounds
    distance: Tensor  # (N,) in the threat model's norm
    queries: Tensor  # (N,) int64: forward passes spent on the example
