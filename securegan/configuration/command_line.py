"""What was typed after ``python -m securegan.run``: Hydra's flags and the overrides."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser  # the parser that hydra.main will use: one reading of the flags

from securegan.errors import ConfigError


@dataclass(frozen=True)
class CommandLine:
    """The parsed command line; ``runs_nothing`` for flags that only print (``--help``, ``--info``, ...)."""

    overrides: list[str]
    multirun: bool
    config_name: str
    extra_folder: Path | None
    runs_nothing: bool


def read_command_line(argv: Sequence[str]) -> CommandLine:
    """``argv`` (without the program's name) as Hydra will understand it.

    Raises:
        ConfigError: an unknown flag, or one that this program does not offer.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    flags = parser.parse_args(list(argv))
    if flags.experimental_rerun is not None:
        raise ConfigError("--experimental-rerun is not allowed: it unpickles a file; resume a run with ckpt=RUN.")
    if flags.config_path is not None:
        raise ConfigError("--config-path is not allowed: add a folder of your own options with --config-dir.")
    extra = None if flags.config_dir is None else Path(flags.config_dir).absolute()
    if extra is not None and not extra.is_dir():
        raise ConfigError(f"--config-dir={flags.config_dir} is not allowed: there is no such folder.")
    prints = (flags.help, flags.hydra_help, flags.shell_completion, flags.info)
    return CommandLine(
        overrides=flags.overrides,
        multirun=flags.multirun,
        config_name=flags.config_name or "config",
        extra_folder=extra,
        runs_nothing=any(prints),
    )


def _refuse(message: str) -> NoReturn:
    if message.startswith("unrecognized arguments:"):
        given = message.partition(":")[2].strip()
        raise ConfigError(
            f"{given} cannot stand there: flags such as -m go before or after all key=value settings, "
            "and --help lists the flags that exist."
        )
    raise ConfigError(f"The command line cannot be read: {message}; --help lists the flags.")
