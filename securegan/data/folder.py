"""Images of the user's own: a folder or a zip file, flat or in class folders, with or without splits.

What names mean is in :mod:`securegan.data.layout`; what becomes of each file in :mod:`securegan.data.decode`.
"""

from pathlib import Path

from securegan.data.layout import ImageFiles, listing_key
from securegan.data.module import ImageDataModule
from securegan.data.records import Prepared
from securegan.data.sources import open_files
from securegan.data.store import prepare
from securegan.errors import ConfigError


class Folder(ImageDataModule):
    """The images under ``path``."""

    data_name = "folder"
    usual_eps = 8 / 255

    def load(self) -> Prepared:
        """Raises ConfigError without a usable path, UserError where its images cannot be used."""
        if self.path is None:
            raise ConfigError("data.path is missing: expected a folder or a zip file of images.")
        return prepare_path(self, self.path)

    def describe(self) -> str:
        return self.data_name if self.path is None else Path(self.path).stem


def prepare_path(module: ImageDataModule, path: str) -> Prepared:
    """The store of the images under ``path`` with the module's settings."""
    files = open_files(path)
    return prepare(
        module.cache_dir,
        listing_key(files),
        lambda channels: ImageFiles(files, module.size, channels),
        size=module.size,
        channels=module.channels,
        on_bad=module.on_bad,
    )
