"""From a name in a configuration to an object of this package, and to nothing else.

``hydra.utils.instantiate`` calls whatever ``_target_`` names, so a configuration file could run any code of the
machine. Here a target is ``securegan.<module>.<name>``: a class or function that this very module defines, judged on
the object found rather than on the spelling alone (``securegan.run.os.system`` and a re-exported ``torch.load`` fail).
"""

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from securegan.errors import ConfigError

PREFIXES = ("securegan.",)
_DOTTED = re.compile(r"[a-z]\w*(\.[A-Za-z]\w*)+")


def resolve(target: object) -> Callable[..., Any]:
    """The class or function ``target`` names.

    Raises:
        ConfigError: it is not a name of this package, does not exist, or the module it names did not define it.
    """
    if not isinstance(target, str) or not _DOTTED.fullmatch(target) or not target.startswith(PREFIXES):
        raise _refused(target, "only classes and functions of securegan may be named")
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith(PREFIXES):
            raise  # a dependency is missing, which is not the configuration's fault
        raise _refused(target, f"there is no module {error.name}") from None
    found = getattr(module, name, None)
    if found is None:
        raise _refused(target, f"{module_name} has no {name}")
    if not (inspect.isclass(found) or inspect.isfunction(found)) or found.__module__ != module_name:
        raise _refused(target, f"{name} is not a class or function that {module_name} defines")
    return found


def build(node: DictConfig | Mapping[str, Any], *injected: object) -> Any:
    """Call the target of ``node``: ``injected`` are its positional arguments, the node's other keys its keywords.

    Every value is checked and converted against the target's annotation first (``"8/255"`` becomes a float).

    Raises:
        ConfigError: see :func:`resolve` and :func:`securegan.configuration.validate.checked_arguments`.
    """
    from securegan.configuration.validate import checked_arguments

    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    target = resolve(plain.get("_target_"))
    return target(*injected, **checked_arguments(plain, at=target.__name__))


def build_each(group: DictConfig | None, *injected: object) -> list[Any]:
    """:func:`build` of every chosen option of a group of several, in the order of the config."""
    return [build(node, *injected) for node in (group or {}).values() if node]


def _refused(target: object, why: str) -> ConfigError:
    return ConfigError(f"_target_={target} is not allowed: {why}.")
