"""What every defence callback tells the rest of a run."""

import pytorch_lightning as pl

from securegan.errors import ConfigError
from securegan.models.base import GenerativeModule


class Defense(pl.Callback):
    """A callback that attaches to the ports of a :class:`GenerativeModule` once, before any strategy wraps it."""

    name: str

    def __init__(self) -> None:
        self._attached = False

    def attach(self, module: GenerativeModule, trainer: pl.Trainer) -> None:
        """Append hooks to ``module.ports``."""
        raise NotImplementedError

    @property
    def facts(self) -> dict[str, object]:
        """What a reader of the figures must know of its settings, for the run's protocol."""
        return {}

    def full_strength(self, epoch: int) -> bool:
        """Whether epoch ``epoch`` (0-based) was trained at the defence's final setting.

        Only such epochs may supply the chosen checkpoint: the best FID of a warm-up says nothing about the defence.
        """
        return True

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or self._attached:
            return
        if not isinstance(pl_module, GenerativeModule):
            raise ConfigError(f"defense={self.name} needs one of SecureGAN's models, not {type(pl_module).__name__}.")
        self.attach(pl_module, trainer)
        self._attached = True
