"""The overrides of a command line, judged one by one before Hydra composes them.

Hydra's own messages speak of structs and defaults lists; here each mistake becomes one sentence in the user's terms.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException

from securegan.configuration.schema import OPTIONS, SEVERAL
from securegan.configuration.validate import unknown_key
from securegan.configuration.wording import shown
from securegan.errors import ConfigError, near_match

MOST_JOBS = 512
"""Jobs of one sweep: each is composed and checked before the first one starts."""


def parse(overrides: Sequence[str], loader: ConfigLoader) -> list[Override]:
    """The overrides in Hydra's own reading.

    Raises:
        ConfigError: one of them is not ``key=value``.
    """
    try:
        return OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise ConfigError(
            f"'{error.override}' cannot be read: expected key=value, a list as key=[a,b], "
            "and quotes inside quotes around text with special characters, \"key='a b'\"."
        ) from None


def expand(parsed: Sequence[Override]) -> list[list[str]]:
    """The overrides of every job of a sweep, in the order in which Hydra's basic sweeper runs them.

    Raises:
        ConfigError: a sweep without discrete values, or one of more than :data:`MOST_JOBS` jobs.
    """
    choices: list[list[str]] = []
    for override in parsed:
        if not override.is_sweep_override():
            choices.append([str(override.input_line)])
            continue
        if not override.is_discrete_sweep():
            raise ConfigError(f"{override.input_line} cannot be swept: list the values, as in key=0.1,0.2.")
        try:
            values = list(override.sweep_string_iterator())
        except HydraException as error:
            raise ConfigError(f"{override.input_line} cannot be swept: {error}.") from None
        choices.append([f"{override.get_key_element()}={value}" for value in values])
    jobs = [list(job) for job in itertools.islice(itertools.product(*choices), MOST_JOBS + 1)]
    if len(jobs) > MOST_JOBS:
        raise ConfigError(f"-m asks for more than {MOST_JOBS} jobs: split the sweep into several.")
    return jobs


def refuse_form(override: Override) -> None:
    """Raises ConfigError for what Hydra's grammar allows and a run has no use for."""
    line, key = override.input_line, override.key_or_group
    if override.is_delete():
        raise ConfigError(f"{line} is not allowed: settings cannot be removed; give another value with {key}=...")
    if override.package is not None:
        raise ConfigError(f"{line} is not allowed: options have fixed places; write {key}=...")
    if override.is_hydra_override() and override.is_sweep_override():
        raise ConfigError(f"{line} is not allowed: Hydra's own settings take one value for all runs.")
    if key.split(".")[-1] == "_target_":
        raise ConfigError(f"{line} is not allowed: choose a component by the options of its group.")


def refuse_sweep(override: Override) -> None:
    """Raises ConfigError where ``override`` lists values for several jobs although ``-m`` was not given."""
    if not override.is_sweep_override():
        return
    key, values = override.get_key_element(), override.get_value_string()
    together = ""
    if key in SEVERAL:
        together = f", or write {key}=[{values}] to use them together"
    elif key not in OPTIONS:
        together = f", or write {key}=[{values}] if a list is meant"
    raise ConfigError(
        f"{override.input_line} asks for several runs: add -m to make them one after the other{together}."
    )


def check_option(override: Override, options: Sequence[str]) -> None:
    """Raises ConfigError unless ``override`` chooses among ``options`` of its group, in a way the group allows."""
    group, value = override.key_or_group, override.value()
    if override.is_add() or override.is_force_add():
        raise ConfigError(f"{override.input_line} is not allowed: write {group}=... without the +.")
    if value is None and group not in OPTIONS:
        return
    chosen = value if isinstance(value, list) else [value]
    if isinstance(value, list) and group in OPTIONS and group not in SEVERAL:
        raise ConfigError(f"{group}={shown(value)} is not allowed: a run has one {group}; use -m to compare several.")
    for item in chosen:
        if not isinstance(item, str) or item not in options:
            raise ConfigError(
                f"{group}={shown(value)} is not allowed: {_among(group, options)}.{near_match(shown(item), options)}"
            )
    if not chosen or len(set(chosen)) < len(chosen) or (len(chosen) > 1 and "none" in chosen):
        raise ConfigError(f"{group}={shown(value)} is not allowed: expected none, or each option at most once.")


def _among(group: str, options: Sequence[str]) -> str:
    several = f", or several as {group}=[a,b]" if group in SEVERAL else ""
    return f"expected one of {', '.join(options)}{several}"


def check_key(override: Override, plain: Mapping[str, Any]) -> None:
    """Raises ConfigError unless the dotted key of ``override`` exists in ``plain``, the configuration without it."""
    key = override.key_or_group
    parts, node = key.split("."), plain
    for depth, part in enumerate(parts):
        here = ".".join(parts[:depth])
        if isinstance(node, list):
            return  # a position in a list: Hydra's to judge
        if not isinstance(node, dict):
            raise ConfigError(f"{key} is not a setting: {here} is a single value.")
        if part not in node:
            raise _unknown(parts[: depth + 1], key, node, plain)
        node = node[part]
    if override.is_add():
        raise ConfigError(f"{override.input_line} is not allowed: {key} exists already, so write it without the +.")


def _unknown(parts: Sequence[str], key: str, node: Mapping[str, Any], plain: Mapping[str, Any]) -> ConfigError:
    group, last = parts[0], parts[-1]
    if group in OPTIONS and not plain[group] and len(parts) > 1:
        return ConfigError(f"{key} is not a setting: {group}=none has none.")
    if group in SEVERAL and len(parts) == 2 and last in OPTIONS[group]:
        together = ",".join([*plain[group], last])
        return ConfigError(f"{key} is not a setting here: {last} was not chosen; add {group}=[{together}].")
    if len(parts) == 1 and (found := next(_dotted_ends(plain, last), None)):
        return ConfigError(f"{key} is not a setting of its own. Did you mean '{found}'?")
    return unknown_key(".".join(parts), [name for name in node if name != "_target_"])


def _dotted_ends(node: Mapping[str, Any], last: str, prefix: str = "") -> Iterator[str]:
    """Dotted keys below ``node`` whose last part is ``last``."""
    for key, value in node.items():
        if key == last:
            yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted_ends(value, last, f"{prefix}{key}.")
