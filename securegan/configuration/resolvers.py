"""What the configuration files may call inside ``${...}``: names for run folders that never collide."""

import re
import secrets

from omegaconf import OmegaConf

_LONGEST = 80


def random_hex() -> str:
    """Four random hexadecimal digits: two runs started in the same second get two folders."""
    return secrets.token_hex(2)


def folder_name(text: str) -> str:
    """``text`` as one short folder name that can be given to ``ckpt=`` without quotes.

    ``attack.eps=8/255`` may neither open a subfolder nor grow too long, and Hydra reads ``=`` and ``,`` as its own.
    """
    return re.sub(r"[^\w.+-]+", "-", text)[:_LONGEST]


def run_folder(continued: str | None, new: str) -> str:
    """Where Hydra writes: into the run that is ``continued``, or a ``new`` folder."""
    return continued or new


def register_resolvers() -> None:
    """Make them known to OmegaConf. Harmless when repeated."""
    # Cached per configuration, so that a run's folder keeps its name however often it is read.
    OmegaConf.register_new_resolver("securegan.random_hex", random_hex, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("securegan.folder_name", folder_name, replace=True)
    OmegaConf.register_new_resolver("securegan.run_folder", run_folder, replace=True)
