"""Files that are either the old or the new version, never half of one."""

import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from securegan.errors import UserError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then give it its name. Raises UserError where that fails."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise UserError(f"{path} could not be written ({error.strerror}): check the folder's permissions.") from error
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        raise UserError(
            f"{path} could not be written ({error}): check the disk's free space and permissions."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def require_empty(folder: Path, flag: str) -> None:
    """Make ``folder`` where it is missing. Raises UserError, naming ``flag``, where it holds something or cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"{flag}={folder} is not empty: choose another folder.")
    except OSError as error:
        raise UserError(f"{flag}={folder} cannot be used: {error.strerror}.") from error


def as_json(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON; NaN and infinities become null, which JSON has."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def write_json(path: Path, value: Any) -> bytes:
    """``value`` as indented JSON, by :func:`as_json`. Gives what was written."""
    content = (as_json(value, 1) + "\n").encode()
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    return content


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
