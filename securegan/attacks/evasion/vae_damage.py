"""Greatest damage to an autoencoder, without a target (after Gondim-Ribeiro et al. 2018, arXiv 1806.04646).

max ||r(x + d) - r(x)||^2 over d in the ball, or of the symmetric KL divergence of q(z|x + d) and q(z|x) (Kuzina et al.
2021, arXiv 2103.06701).
"""

from typing import Any, Literal

from securegan.attacks.evasion.autoencoder import AutoencoderAttack
from securegan.attacks.surfaces import Objective
from securegan.attacks.threat import Radii


class VAEDamage(AutoencoderAttack):
    """The reconstruction, or the code, is moved as far from the clean one as it goes."""

    name = "vae_damage"

    def __init__(
        self,
        radii: Radii | None = None,
        *,
        objective: Literal["damage", "encoder"] = "damage",
        **of_every_attack: Any,
    ) -> None:
        """Args:
        objective: the squared error of the output, or the divergence of the posterior.
        of_every_attack: as of :class:`AutoencoderAttack`.
        """
        super().__init__(radii, **of_every_attack)
        self.objective: Objective = objective
