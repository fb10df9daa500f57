"""Every key and value of a composed configuration against the constructor that will receive it.

An error is one sentence that names the dotted key, the value given and what is allowed in plain words.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, TypeAdapter, ValidationError

from securegan.configuration.allowlist import resolve
from securegan.configuration.schema import OPTIONAL, OPTIONS, SEVERAL, parameters_of
from securegan.configuration.types import NonNegativeInt
from securegan.configuration.wording import accepts_bool, allowed_words, choices_of, shown
from securegan.errors import ConfigError, near_match

ROOT: dict[str, Any] = {
    "seed": NonNegativeInt,
    "ckpt": str | None,
    "cache_dir": str,
    "name": str | None,
}
"""The keys at the top of a configuration that belong to no component."""


def validate(cfg: DictConfig) -> None:
    """Check the whole configuration of a run.

    Raises:
        ConfigError: the first mistake found, in one sentence.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"The configuration cannot be read: {str(error).splitlines()[0]}.") from None
    assert isinstance(plain, dict)
    plain.pop("hydra", None)
    for key in plain:
        if key not in ROOT and key not in OPTIONS:
            raise unknown_key(str(key), [*ROOT, *OPTIONS])
    for key in [*ROOT, *OPTIONS]:
        if key not in plain:
            raise ConfigError(f"{key} must be given: {_options_words(key)}.")
    for key, annotation in ROOT.items():
        checked_value(key, plain.get(key), annotation)
    for at, node in components(plain):
        checked_arguments(node, at=at)


def components(plain: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """``(dotted key, node)`` of every component chosen; a group set to ``none`` has none.

    Raises:
        ConfigError: a group holds something that is not a component.
    """
    for group in OPTIONS:
        node = plain[group]
        if node == {} and group in OPTIONAL:
            continue
        if not isinstance(node, Mapping) or not node:
            raise ConfigError(f"{group}={shown(node)} is not allowed: {_options_words(group)}.")
        if group not in SEVERAL:
            yield group, node
            continue
        for option, inner in node.items():
            if not isinstance(inner, Mapping):
                raise unknown_key(f"{group}.{option}", list(OPTIONS[group]))
            yield f"{group}.{option}", inner


def options_of(group: str) -> list[str]:
    """The options of ``group``, ``none`` last where the group has it."""
    return [*sorted(OPTIONS[group]), *(["none"] if group in OPTIONAL else [])]


def _options_words(key: str) -> str:
    if key not in OPTIONS:
        return f"expected {allowed_words(_adapter(ROOT[key]))}"
    return f"expected one of {', '.join(options_of(key))}"


def checked_arguments(node: Mapping[str, Any], *, at: str) -> dict[str, Any]:
    """The keyword arguments that ``node`` gives its target, each converted to what the target's annotation says.

    ``at`` is the dotted key of the node, for the messages.

    Raises:
        ConfigError: the target is refused, a key is unknown or missing, or a value is not allowed.
    """
    if "_target_" not in node:
        raise unknown_key(f"{at}.{next(iter(node), '')}", [])
    known = parameters_of(resolve(node["_target_"]))
    for key in node:
        if key != "_target_" and key not in known:
            raise unknown_key(f"{at}.{key}", list(known))
    for key, (annotation, default) in known.items():
        if default is inspect.Parameter.empty and node.get(key, "???") == "???":
            expected = allowed_words(_adapter(annotation))
            raise ConfigError(f"{at}.{key} must be given, for example as {at}.{key}=...: expected {expected}.")
    return {
        key: checked_value(f"{at}.{key}", node[key], annotation)
        for key, (annotation, _) in known.items()
        if key in node
    }


def checked_value(key: str, value: object, annotation: Any) -> Any:
    """``value`` as ``annotation`` reads it.

    Raises:
        ConfigError: naming ``key``, the value and what is allowed.
    """
    adapter = _adapter(annotation)
    try:
        if isinstance(value, bool) and not accepts_bool(adapter):
            raise ConfigError(f"{key}={shown(value)} is not allowed: expected {allowed_words(adapter)}.")
        return adapter.validate_python(value)
    except ValidationError as error:
        wrong = [str(part["input"]) for part in error.errors() if isinstance(part["input"], str)]
    choices = choices_of(adapter)
    if value in choices:  # one of a list's entries, given without the brackets
        hint = f" Did you mean [{value}]?"
    else:
        hint = next((match for item in wrong if (match := near_match(item, map(str, choices)))), "")
    raise ConfigError(f"{key}={shown(value)} is not allowed: expected {allowed_words(adapter)}.{hint}")


def unknown_key(key: str, known: list[str]) -> ConfigError:
    """The error for a dotted ``key`` that does not exist beside ``known``."""
    parent, _, last = key.rpartition(".")
    if not known:
        return ConfigError(f"{key} is not a setting: {parent} has none here.")
    where = f"{parent} has" if parent else "the configuration has"
    return ConfigError(f"{key} is not a setting: {where} {', '.join(sorted(known))}.{near_match(last, known)}")


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False, coerce_numbers_to_str=True))
