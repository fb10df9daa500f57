"""Images of the user's own: a folder or a zip file, flat or in class folders, with or without splits.

What names mean is in :mod:`securegan.data.layout`; what becomes of each file in :mod:`securegan.data.decode`.
"""

from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt, Lt

from securegan.data.layout import Gate, ImageFiles, listing_key
from securegan.data.module import ImageDataModule
from securegan.data.records import Prepared
from securegan.data.sources import open_files
from securegan.data.store import prepare
from securegan.errors import ConfigError


class Folder(ImageDataModule):
    """The images under ``path``."""

    data_name = "folder"
    usual_eps = 8 / 255

    def __init__(
        self,
        cache_dir: Path,
        seed: int,
        *,
        intake: str | None = None,
        false_positive_rate: Annotated[float, Gt(0), Lt(1)] = 0.01,
        require_signed: bool = False,
        trust: str | None = None,
        **of_every_data_set: Any,
    ) -> None:
        """Args:
        intake: a run folder; images unlike those it was trained on are left out and reported.
        false_positive_rate: the share of clean images like that run's that it leaves out none the less.
        require_signed: leave out images without a sidecar by a key that ``trust`` holds good.
        trust: a trust store; sidecars that are there must count.
        of_every_data_set: as of :class:`ImageDataModule`.
        """
        super().__init__(cache_dir, seed, **of_every_data_set)
        self.intake, self.false_positive_rate = intake, false_positive_rate
        self.require_signed, self.trust = require_signed, trust
        self.gate: Gate | None = None
        self.gate_key = ""

    def load(self) -> Prepared:
        """Raises ConfigError without a usable path, UserError where its images cannot be used."""
        if self.path is None:
            raise ConfigError("data.path is missing: expected a folder or a zip file of images.")
        if self.gate is None and (self.intake is not None or self.require_signed or self.trust is not None):
            raise RuntimeError("the data ask for a gate, and none was attached before they were read")
        return prepare_path(self, self.path, self.gate, self.gate_key)

    def describe(self) -> str:
        return self.data_name if self.path is None else Path(self.path).stem


def prepare_path(module: ImageDataModule, path: str, gate: Gate | None = None, gate_key: str = "") -> Prepared:
    """The store of the images under ``path`` with the module's settings.

    Args: gate_key: changes whenever ``gate`` may decide otherwise.
    """
    files = open_files(path)
    return prepare(
        module.cache_dir,
        listing_key(files, gate_key),
        lambda channels: ImageFiles(files, module.size, channels, gate),
        size=module.size,
        channels=module.channels,
        on_bad=module.on_bad,
    )
