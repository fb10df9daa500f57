"""The configuration that a run was started with, read back: plain values, whoever wrote the file."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from securegan.errors import UserError

DEEPEST = 16  # levels of a configuration
LARGEST = 2**64
FAULTS = (  # of what is no YAML, and of YAML's tags on values that do not suit them
    yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError,
)  # fmt: skip


def read_config(file: Path, content: bytes) -> DictConfig:
    """The mapping of plain values that a run wrote. Raises UserError, naming ``file``, where ``content`` is none.

    An interpolation could show an environment variable (``oc.env``) to whatever the value is given to; what YAML's
    anchors share is copied for each use, so a few bytes could take all memory; deep nesting takes the parser hours.
    """
    try:
        text = content.decode()
        depth = 0
        for event in yaml.parse(text):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST or isinstance(event, yaml.AliasEvent):
                what = "a YAML alias" if isinstance(event, yaml.AliasEvent) else f"more than {DEEPEST} levels"
                raise UserError(f"{file} is refused: it has {what}, which no run writes.")
            if isinstance(event, yaml.ScalarEvent):
                _require_plain(file, event.value)
        config = OmegaConf.load(io.StringIO(text))
    except FAULTS as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"{file} is damaged ({reason}): the run cannot be continued.") from error
    if not isinstance(config, DictConfig):
        raise UserError(f"{file} is damaged: expected a mapping.")
    for value in _values(OmegaConf.to_container(config, resolve=False)):
        if isinstance(value, int) and abs(value) >= LARGEST:
            raise UserError(f"{file} is damaged: it has a number that is not one of 64 bits.")
    return config


def _require_plain(file: Path, value: str) -> None:
    """Raises UserError for an interpolation, before OmegaConf's parser takes its time over it."""
    if "${" in value:
        raise UserError(f"{file} is refused: {value[:80]!r} stands for another value, and plain ones are expected.")


def _values(plain: Any) -> Iterator[Any]:
    if not isinstance(plain, dict | list):
        yield plain
        return
    for part in plain.values() if isinstance(plain, dict) else plain:
        yield from _values(part)
