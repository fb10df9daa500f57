"""The configuration of a command line: found, composed by Hydra, and checked before anything runs."""

import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import securegan
from securegan.configuration.command_line import CommandLine, read_command_line
from securegan.configuration.overrides import check_key, check_option, expand, parse, refuse_form, refuse_sweep
from securegan.configuration.resolvers import register_resolvers
from securegan.configuration.schema import register_schema
from securegan.configuration.validate import validate
from securegan.errors import ConfigError, near_match


def config_dir() -> Path:
    """The folder of configuration files: inside the installed package, beside it in a source checkout.

    Raises:
        ConfigError: neither is there.
    """
    package = Path(securegan.__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"The configuration folder is missing beside {package}: install securegan again.")


def register() -> None:
    """Make schemas and resolvers known to Hydra, for :func:`compose_checked` and ``hydra.main`` alike."""
    register_schema()
    register_resolvers()


def compose_checked(argv: Sequence[str]) -> list[DictConfig]:
    """The checked configuration of every job that ``argv`` asks for: one, or with ``-m`` one of each combination.

    Empty where ``argv`` only asks for information, such as ``--help``. Nothing is run, written or downloaded.

    Raises:
        ConfigError: the first mistake found, in one sentence.
    """
    line = read_command_line(argv)
    register()
    if line.runs_nothing:
        return []
    with _one_sentence(), initialize_config_dir(str(config_dir()), job_name="run", version_base="1.3"):
        return _Composer(line).jobs()


class _Composer:
    """Composes the jobs of one command line; what the same overrides compose to is shared between them."""

    def __init__(self, line: CommandLine) -> None:
        self.line = line
        self.loader = GlobalHydra.instance().config_loader()
        self.search = [] if line.extra_folder is None else [f"hydra.searchpath=['{line.extra_folder}']"]
        self.options_of = functools.cache(self._options_of)
        self.composed = functools.cache(self._composed)

    def jobs(self) -> list[DictConfig]:
        parsed = parse(self.line.overrides, self.loader)
        for override in parsed:
            refuse_form(override)
        settings = self._hydra_settings(parsed)
        if not self.line.multirun and settings.mode != RunMode.MULTIRUN:
            for override in parsed:
                refuse_sweep(override)
            return [self._job(parsed)]
        swept = [f"{key}={value}" for key, value in (settings.sweeper.get("params") or {}).items()]
        jobs = expand([*parse(swept, self.loader), *parsed])
        configs = [self._job(parse(job, self.loader)) for job in jobs]
        for cfg in configs:
            _refuse_several_processes(cfg)
        return configs

    def _job(self, parsed: Sequence[Override]) -> DictConfig:
        """One job's configuration, checked."""
        own = [override for override in parsed if not override.is_hydra_override()]
        _refuse_beside_ckpt(own)
        groups = [override for override in own if self._options(override)]
        for override in groups:
            check_option(override, self._options(override))
        base: Any = OmegaConf.to_container(self._without_hydra(groups), resolve=False)
        for override in own:
            if override not in groups:
                check_key(override, base)
        cfg = self._without_hydra(own)
        validate(cfg)
        return cfg

    def _hydra_settings(self, parsed: Sequence[Override]) -> DictConfig:
        """Hydra's own node, which may ask for a sweep by itself (``hydra.mode``, ``hydra.sweeper.params``)."""
        single = [override for override in parsed if not override.is_sweep_override()]
        telling = [override for override in single if override.is_hydra_override() or self._options(override)]
        for override in telling:
            if options := self._options(override):
                check_option(override, options)
        return self.composed(tuple(str(override.input_line) for override in telling)).hydra

    def _options(self, override: Override) -> tuple[str, ...]:
        return self.options_of(override.key_or_group)

    def _options_of(self, key: str) -> tuple[str, ...]:
        """The options of the group named ``key``; none where it is the key of a value."""
        if "." in key:
            return ()
        return tuple(self.loader.get_group_options(key, config_name=self.line.config_name, overrides=self.search))

    def _without_hydra(self, overrides: Sequence[Override]) -> DictConfig:
        cfg = copy.deepcopy(self.composed(tuple(str(override.input_line) for override in overrides)))
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg

    def _composed(self, overrides: tuple[str, ...]) -> DictConfig:
        return compose(self.line.config_name, [*self.search, *overrides], return_hydra_config=True)


def _refuse_beside_ckpt(own: Sequence[Override]) -> None:
    if any(override.key_or_group == "ckpt" and override.value() is not None for override in own):
        for override in own:
            if override.key_or_group != "ckpt":
                raise ConfigError(
                    f"{override.input_line} cannot stand beside ckpt=...: a resumed run keeps its own configuration."
                )


def _refuse_several_processes(cfg: DictConfig) -> None:
    """Each child process of DDP would run the whole sweep again."""
    if cfg.trainer.get("devices", 1) != 1:
        raise ConfigError(
            f"trainer.devices={cfg.trainer.devices} cannot be swept with -m: start each job as a process of its own, "
            "for instance in a shell loop."
        )


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turns what Hydra, OmegaConf and the YAML parser raise into one sentence."""
    try:
        yield
    except MissingConfigException as error:
        missing, options = error.missing_cfg_file or "?", list(error.options or [])
        group, _, option = missing.rpartition("/")
        if group and options:
            raise ConfigError(
                f"{group}={option} is not allowed: expected one of {', '.join(options)}.{near_match(option, options)}"
            ) from None
        raise ConfigError(f"There is no configuration named {missing}.") from None
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        said = [line.strip() for line in f"{error}\n{error.__cause__ or ''}".splitlines() if line.strip()]
        raise ConfigError(f"The configuration cannot be composed: {said[0].rstrip('.') if said else error}.") from None
