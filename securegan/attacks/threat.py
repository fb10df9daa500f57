"""The threat model that stands beside every figure, and what an attack gives back."""

from dataclasses import asdict, dataclass
from typing import Literal, Self

from torch import Tensor

Norm = Literal["linf", "l2"]
AnyNorm = Literal["linf", "l2", "l0"]  # l0 counts pixels that differ in any channel
Goal = Literal["untargeted", "targeted"]
Knowledge = Literal["white box", "transfer", "score", "decision"]


@dataclass(frozen=True)
class Radii:
    """The radius that a data set's attacks take by default, in each norm."""

    linf: float
    l2: float
    l0: float = 5.0  # pixels (Su et al. 2019, arXiv 1710.08864, attack 1, 3 and 5)

    @classmethod
    def of(cls, eps: float, dimensions: int) -> Self:
        """From the L-inf radius of images with ``dimensions`` values.

        L2: a quarter of the longest perturbation of that radius, near the literature's pairs (0.5 beside 8/255 on
        32x32 colour images, 2.0 beside 0.3 on 28x28 grey ones: Croce & Hein 2020, arXiv 2003.01690, section 6).
        """
        return cls(eps, 0.25 * eps * dimensions**0.5)

    def get(self, norm: AnyNorm) -> float:
        """The radius in ``norm``."""
        return {"linf": self.linf, "l2": self.l2, "l0": self.l0}[norm]


@dataclass(frozen=True)
class ThreatModel:
    """Who attacks, where, how far and knowing what (Carlini et al. 2019, arXiv 1902.06705, section 2)."""

    norm: AnyNorm
    eps: float  # pixels: units of [0, 1], or a count in l0; latents: standard deviations of the prior
    space: Literal["pixels", "latent"]
    goal: Goal = "untargeted"
    knowledge: Knowledge = "white box"
    adaptive: bool = False  # whether the adversary attacks through the detector as well

    def as_dict(self) -> dict[str, object]:
        """Plain values for a run's protocol."""
        return asdict(self)


@dataclass(frozen=True)
class AttackResult:
    """Per-example outcome of an attack on N inputs."""

    adversarial: Tensor  # inputs' shape; equal to the input where the clean decision was wrong
    success: Tensor  # (N,) bool: right before, wrong (targeted: the target) after, and valid
    clean_right: Tensor  # (N,) bool: the decision on the clean input was right (targeted: and not the target)
    valid: Tensor  # (N,) bool: within eps and the space's bounds
    distance: Tensor  # (N,) of ``adversarial``, in the threat model's norm
    queries: Tensor  # (N,) int64: forward passes spent on the example
    nearest: Tensor  # (N,) distance of the nearest success seen, within eps or not; inf where there is none
