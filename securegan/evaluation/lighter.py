"""Lighter attacks that stand in for a run's own where the worst case is not asked for."""

import copy

from securegan.attacks.evasion.autoencoder import AutoencoderAttack
from securegan.attacks.evasion.base import EvasionAttack
from securegan.attacks.evasion.pgd import PGD
from securegan.attacks.threat import Norm
from securegan.evaluation.protocol import Protocol


def at_epochs(attack: EvasionAttack, protocol: Protocol) -> EvasionAttack:
    """The attack of evaluation epochs: PGD of the same radius and goal, with the fewer steps and restarts asked for.

    An attack on a count of pixels has no such twin and stays itself; one on autoencoders becomes shorter.
    """
    if attack.norm == "l0":
        return attack
    lighter = copy.copy(attack) if isinstance(attack, AutoencoderAttack) else _pgd(attack)
    lighter.restarts = min(lighter.restarts, protocol.epoch_restarts)
    lighter.steps = min(lighter.steps, protocol.epoch_steps)
    return lighter


def without_worst_case(attack: EvasionAttack) -> PGD:
    """One start and one objective, and every example moved to the end."""
    lighter = _pgd(attack)
    lighter.restarts, lighter.objectives, lighter.early_drop = 1, ("margin",), False
    return lighter


def _pgd(attack: EvasionAttack) -> PGD:
    if isinstance(attack, PGD):
        return copy.copy(attack)
    norm: Norm = "l2" if attack.norm == "l2" else "linf"
    return PGD(
        norm=norm,
        eps=attack.eps,
        latent_eps=attack.latent_eps,
        targeted=attack.targeted,
        surfaces=attack.surfaces,
        adaptive=attack.adaptive,
    )
