"""Paths in a configuration that is kept: a run continued from another folder must find what it was started with."""

import copy
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from securegan.configuration.extractors import ExtractorName

PLACES = (
    "data.path", "data.intake", "data.trust", "cache_dir", "metrics.inception_weights", "attack.surrogate",
    "security.keys", "security.log", "security.trust",
)  # fmt: skip


def with_absolute_paths(config: DictConfig) -> DictConfig:
    """A copy of ``config`` whose relative paths start at the current folder."""
    kept = copy.deepcopy(config)
    for key in PLACES:
        value = OmegaConf.select(kept, key, default=None)
        if value is not None and not Path(str(value)).expanduser().is_absolute():
            OmegaConf.update(kept, key, str(Path(str(value)).absolute()))
    extractors = OmegaConf.select(kept, "metrics.extractors", default=None)
    if extractors:
        names = [ExtractorName.parse(str(written)) for written in extractors]
        absolute = [str(name._replace(path=name.path.expanduser().absolute())) for name in names]
        OmegaConf.update(kept, "metrics.extractors", absolute)
    return kept
