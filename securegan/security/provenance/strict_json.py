"""JSON with one meaning: a text that two parsers could read differently is refused.

No key twice, no fraction, NaN or infinity, no number beyond 64 bits, no half of a surrogate pair, UTF-8 alone.
"""

import json
from typing import Any, NoReturn

from securegan.security.spelling import unique

LARGEST = 2**64


def parse(data: bytes, *, limit: int) -> Any:
    """The value of ``data``. Raises ValueError with the reason; ``limit``: of bytes."""
    if len(data) > limit:
        raise ValueError(f"more than {limit} bytes")
    try:
        text = data.decode()
        value = json.loads(
            text, object_pairs_hook=unique, parse_int=_integer, parse_float=_refused, parse_constant=_refused
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return value


def write(value: Any) -> bytes:
    """``value`` in the one layout used here: sorted keys, no blanks, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _integer(text: str) -> int:
    if len(text) > 21 or text == "-0" or abs(number := int(text)) >= LARGEST:
        raise ValueError("a number that is not one of 64 bits")
    return number


def _refused(text: str) -> NoReturn:
    raise ValueError(f"the number {text[:20]}, which is no integer")
