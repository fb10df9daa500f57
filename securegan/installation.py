"""What is said when the installed torch and torchvision do not fit each other.

A CPU-only torch beside the registry's torchvision fails at import with ``operator torchvision::nms does not exist``,
deep inside Lightning, which imports torchvision wherever it finds it.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version

from securegan.errors import UserError

REPAIR = "install both anew with `pip install --force-reinstall torch torchvision -c constraints.txt`"


def check_installation() -> None:
    """Raises UserError where the pair is incomplete or cannot be imported together."""
    try:
        pair = f"torch {version('torch')} and torchvision {version('torchvision')}"
    except PackageNotFoundError as error:
        raise UserError(f"{error.name} is not installed: {REPAIR}.") from None
    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise UserError(f"{pair} do not fit each other ({reason}): {REPAIR}.") from error
