"""Latent attack on an autoencoder (Kos et al. 2018, arXiv 1702.06832).

min ||mu(x + d) - mu(x_t)||^2 over d in the ball: the code is moved to that of a target image of another class.
"""

from securegan.attacks.evasion.autoencoder import AutoencoderAttack
from securegan.attacks.surfaces import Objective


class VAELatent(AutoencoderAttack):
    """The encoder's mean is moved to that of a target image."""

    name = "vae_latent"
    objective: Objective = "latent"

    @property
    def towards_image(self) -> bool:
        return True
