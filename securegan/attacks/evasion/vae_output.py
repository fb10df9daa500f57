"""Reconstruction attack on an autoencoder (Kos et al. 2018, arXiv 1702.06832, L_VAE).

min ||r(x + d) - r(x_t)||^2 over d in the ball: the output is moved to that of a target image of another class. The
Gaussian reconstruction term alone: the KL divergence of the full bound says nothing of the target.
"""

from securegan.attacks.evasion.autoencoder import AutoencoderAttack
from securegan.attacks.surfaces import Objective


class VAEOutput(AutoencoderAttack):
    """The reconstruction is moved to that of a target image."""

    name = "vae_output"
    objective: Objective = "output"

    @property
    def towards_image(self) -> bool:
        return True
