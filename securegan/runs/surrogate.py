"""A trained run as the surrogate of an attack that transfers."""

from pathlib import Path

from securegan.attacks.surfaces import LabelSurface
from securegan.data.batch import DataSpec
from securegan.errors import ConfigError, UserError
from securegan.runs.sampling import load_module
from securegan.security.provenance.trust import Trust


def surrogate_of_run(run: str, spec: DataSpec, trust: Trust | None = None) -> LabelSurface:
    """The class head of the chosen checkpoint of the run in the folder ``run``, on the CPU.

    Args: spec: of the data that are attacked; trust: who must have signed it, None asks nobody.

    Raises:
        ConfigError: ``run`` holds no usable run, or none that reads images of these classes, channels and size.
    """
    try:
        module = load_module(Path(run).expanduser(), trust=trust)
    except UserError as error:
        raise ConfigError(f"attack.surrogate={run} cannot be used: {error}") from error
    if "label" not in module.surfaces():
        raise ConfigError(f"attack.surrogate={run} is not allowed: its model has no class head; expected one that has.")
    theirs, ours = ((s.class_names, s.channels, s.size) for s in (module.spec, spec))
    if theirs != ours:
        raise ConfigError(
            f"attack.surrogate={run} is not allowed: it reads {_in_words(module.spec)}; expected a run on "
            f"{_in_words(spec)}."
        )
    return LabelSurface(module.class_logits, (module,), spec.class_names)


def _in_words(spec: DataSpec) -> str:
    names = f"{', '.join(spec.class_names[:3])}{', ...' if spec.num_classes > 3 else ''}"
    return f"{spec.num_classes} classes ({names}) in {spec.channels}x{spec.size}x{spec.size} images"
