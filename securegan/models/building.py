"""A model from its settings, where they can be had."""

from omegaconf import DictConfig

from securegan.configuration.allowlist import build
from securegan.data.batch import DataSpec
from securegan.errors import UserError
from securegan.models.base import GenerativeModule


def build_model(settings: DictConfig, spec: DataSpec, seed: int) -> GenerativeModule:
    """The networks that ``settings`` describe, for images of ``spec``.

    Raises:
        ConfigError: see :func:`securegan.configuration.allowlist.build`.
        UserError: they are larger than memory, or than a tensor can be.
    """
    try:
        model: GenerativeModule = build(settings, spec, seed)
    except (RuntimeError, OverflowError, MemoryError, TypeError) as error:  # torch raises all but the third for sizes
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        if isinstance(error, NotImplementedError) or (isinstance(error, TypeError) and "Overflow" not in reason):
            raise
        raise UserError(
            f"the model cannot be built for images of {spec.size}x{spec.size} pixels with its widths ({reason}): give "
            "smaller ones."
        ) from error
    return model
