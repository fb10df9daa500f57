"""Fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572, eq. 4): one step of the full radius.

x' = P(x + eps * steepest(grad L(x))): the sign of the gradient in L-inf, its direction in L2.
"""

from collections.abc import Sequence
from typing import Annotated

from annotated_types import MinLen

from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.surfaces import Objective, SurfaceName
from securegan.attacks.threat import Norm
from securegan.configuration.types import Radius


class FGSM(PGD):
    """One step of PGD with ``alpha = eps`` and no random start. A weak adversary: no robustness claim rests on it.

    On a surface that is flat at the input the step starts from a random point (Tramer et al. 2018, arXiv 1705.07204).
    """

    name = "fgsm"

    def __init__(
        self,
        default_eps: float,
        *,
        norm: Norm = "linf",
        eps: Radius | None = None,
        latent_eps: Radius | None = None,
        objectives: Annotated[Sequence[Objective], MinLen(1)] = ("ce",),
        surfaces: Annotated[Sequence[SurfaceName], MinLen(1)] | None = None,
    ) -> None:
        """Args: as of :class:`PGD`."""
        super().__init__(
            default_eps,
            norm=norm,
            eps=eps,
            latent_eps=latent_eps,
            steps=1,
            alpha=None,
            objectives=objectives,
            random_start=False,
            surfaces=surfaces,
        )

    def _alpha(self, eps: float) -> float:
        return eps
