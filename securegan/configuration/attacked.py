"""The configuration of a trained run under another attack."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from securegan.configuration.compose import compose_checked
from securegan.configuration.validate import validate
from securegan.errors import ConfigError


def with_attack(config: DictConfig, overrides: Sequence[str], trained: Path) -> DictConfig:
    """``config`` of the run in ``trained`` with the attack and the settings of ``metrics`` that ``overrides`` ask for.

    The new configuration names the trained run as its ``ckpt`` and has no loggers.

    Raises:
        ConfigError: another mistake of a command line, or an override of what was trained.
    """
    changed = [override.partition("=")[0].lstrip("+~") for override in overrides]
    for key in changed:
        if key.partition(".")[0] not in ("attack", "metrics"):
            raise ConfigError(f"{key} cannot be changed on a trained run: expected attack=..., attack.* or metrics.*.")
    (composed,) = compose_checked(overrides) or (None,)
    if composed is None or not composed.attack:
        raise ConfigError("attack=none is not possible here: expected an attack such as attack=pgd.")
    made = config.copy()
    made.attack = composed.attack
    for key in changed:
        if key.startswith("metrics."):
            OmegaConf.update(made, key, OmegaConf.select(composed, key), merge=False)
    made.logger, made.ckpt = {}, str(trained.absolute())
    validate(made)
    return made
