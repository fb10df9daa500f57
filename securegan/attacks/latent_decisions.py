"""Surfaces of a generator's codes that push on decisions of the model itself and of a detector about G(z + d).

Beside the independent judge's reading (:class:`securegan.attacks.surfaces.LatentSurface`) they say whether a code can
be chosen whose output the model's own heads or a detector see otherwise.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from securegan.attacks.spaces import LatentSpace
from securegan.attacks.surfaces import Assessment, LatentSurface, Objective, Surface, SurfaceName


class LatentLabelSurface(LatentSurface):
    """The model's own class head reads the intended class from G(z + d); the reference is the class."""

    name: SurfaceName = "latent_label"
    criterion = "the model's own class head reads the class that was asked for; z + d stays in the prior's 95 % shell"


class LatentScoreSurface(Surface):
    """A score of G(z + d) stays at or below a threshold; the reference is the class asked for, if any."""

    objectives: tuple[Objective, ...] = ("margin",)
    below: str  # the decision at or below the threshold, in a word
    above: str

    def __init__(
        self,
        generate: Callable[[Tensor, Tensor], Tensor],
        score: Callable[[Tensor], Tensor],
        threshold: float,
        latent_dim: int,
        victims: Sequence[nn.Module],
    ) -> None:
        """Args:
        score: differentiable, ``(N,)`` of images ``(N, C, H, W)``.
        """
        super().__init__(victims)
        self.space, self.generate, self.score, self.threshold = LatentSpace(latent_dim), generate, score, threshold

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        above = self.score(self.generate(x, reference)) - self.threshold
        margin = above.float()
        return Assessment(margin, margin.detach(), above.detach() <= 0)

    def words(self, x: Tensor, reference: Tensor) -> list[str]:
        return [
            self.above if a else self.below for a in (self.score(self.images(x, reference)) > self.threshold).tolist()
        ]

    def images(self, x: Tensor, reference: Tensor) -> Tensor:
        return self.generate(x, reference)


class LatentAuthenticitySurface(LatentScoreSurface):
    """h(G(z)) is called generated and must not be called real after (fake-to-real by choice of the code)."""

    name: SurfaceName = "latent_authenticity"
    criterion = (
        "the discriminator calls the output generated, at the calibration split's equal-error threshold; z + d stays "
        "in the prior's 95 % shell"
    )
    below, above = "generated", "real"


class LatentDetectorSurface(LatentScoreSurface):
    """G(z) passes a detector and must not be flagged after."""

    name: SurfaceName = "latent_detector"
    criterion = "the detector lets the output pass at its threshold; z + d stays in the prior's 95 % shell"
    below, above = "passed", "flagged"
