"""The numbers a user writes in a configuration, as annotations a constructor can put on its parameters.

Every one of them also accepts a fraction written as text, because radii are quoted so in the literature::

    def __init__(self, *, eps: Radius = 8 / 255, ...) -> None:      # conf or command line: attack.eps=8/255
"""

import re
from typing import Annotated

from annotated_types import Ge, Gt, Le
from pydantic import AllowInfNan, BeforeValidator, Field

_FRACTION = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)\s*")


def parse_fraction(value: object) -> object:
    """``"8/255"`` as the float it stands for; anything else unchanged, for the next validator to judge.

    A truth value is refused here: Python counts ``True`` as 1, a user who writes ``eps=true`` does not.

    Raises:
        ValueError: the value is a bool, or the denominator is zero.
    """
    if isinstance(value, bool):
        raise ValueError("a truth value is not a number")
    if not isinstance(value, str):
        return value
    match = _FRACTION.fullmatch(value)
    if match is None:
        return value
    numerator, denominator = float(match[1]), float(match[2])
    if denominator == 0:
        raise ValueError("the denominator is zero")
    return numerator / denominator


def refuse_bool(value: object) -> object:
    """The value itself, unless it is a bool, which pydantic would read as 0 or 1.

    Raises:
        ValueError: the value is a bool.
    """
    if isinstance(value, bool):
        raise ValueError("a truth value is not a number")
    return value


_FROM_TEXT = (BeforeValidator(parse_fraction), AllowInfNan(False), Field(json_schema_extra={"x-fraction": "8/255"}))

Radius = Annotated[float, Ge(0), *_FROM_TEXT]
"""A perturbation's radius or step: pixels in [0, 1] units, latents in standard deviations of the prior."""

Fraction = Annotated[float, Ge(0), Le(1), *_FROM_TEXT]
"""A share, rate or probability, 0 to 1."""

PositiveFloat = Annotated[float, Gt(0), *_FROM_TEXT]
NonNegativeFloat = Annotated[float, Ge(0), *_FROM_TEXT]
PositiveInt = Annotated[int, Ge(1), BeforeValidator(refuse_bool)]
NonNegativeInt = Annotated[int, Ge(0), BeforeValidator(refuse_bool)]
