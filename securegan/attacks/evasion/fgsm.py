"""Fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572, eq. 4): one step of the full radius.

x' = P(x + eps * steepest(grad L(x))): the sign of the gradient in L-inf, its direction in L2.
"""

from collections.abc import Sequence
from typing import Annotated

from annotated_types import MinLen

from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.surfaces import Objective, SurfaceName
from securegan.attacks.targets import TargetChoice
from securegan.attacks.threat import Norm, Radii
from securegan.configuration.types import NonNegativeInt, Radius


class FGSM(PGD):
    """One step of PGD with ``alpha = eps`` and no random start. A weak adversary: no robustness claim rests on it.

    On a surface that is flat at the input the step starts from a random point (Tramer et al. 2018, arXiv 1705.07204).
    """

    name = "fgsm"

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        norm: Norm = "linf",
        objectives: Annotated[Sequence[Objective], MinLen(1)] = ("ce",),
        eps: Radius | None = None,
        latent_eps: Radius | None = None,
        targeted: TargetChoice | NonNegativeInt | None = None,
        surfaces: Annotated[Sequence[SurfaceName], MinLen(1)] | None = None,
    ) -> None:
        """Args: as of :class:`PGD`."""
        super().__init__(
            radii,
            norm=norm,
            eps=eps,
            latent_eps=latent_eps,
            targeted=targeted,
            surfaces=surfaces,
            steps=1,
            objectives=objectives,
            random_start=False,
        )

    def _alpha(self, eps: float) -> float:
        return eps
