"""A wrong value names its key, itself and what is allowed; a right one arrives converted."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Lt
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from securegan.configuration.types import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Radius,
)
from securegan.configuration.validate import checked_value
from securegan.errors import ConfigError


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_a_fraction_in_text_is_the_fraction(numerator: int, denominator: int) -> None:
    assert math.isclose(TypeAdapter(Radius).validate_python(f"{numerator}/{denominator}"), numerator / denominator)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Radius, -1),
        (Radius, "-1/255"),
        (Radius, "8/0"),
        (Radius, "8/"),
        (Radius, True),
        (Radius, math.nan),
        (Radius, math.inf),
        (Fraction, 1.01),
        (Fraction, "9/8"),
        (PositiveFloat, 0),
        (NonNegativeFloat, -1e-9),
        (PositiveInt, 0),
        (PositiveInt, 1.5),
        (PositiveInt, True),
        (NonNegativeInt, -1),
    ],
)
def test_types_refuse_what_lies_outside(annotation: Any, value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(annotation).validate_python(value)


@pytest.mark.parametrize(
    ("annotation", "value", "sentence"),
    [
        (
            Radius,
            -1,
            "a.b=-1 is not allowed: expected a number greater than or equal to 0 (or a fraction such as 8/255).",
        ),
        (PositiveInt, 0, "a.b=0 is not allowed: expected a whole number greater than or equal to 1."),
        (
            PositiveInt | None,
            "ten",
            "a.b=ten is not allowed: expected a whole number greater than or equal to 1 or null.",
        ),
        (bool, "maybe", "a.b=maybe is not allowed: expected true or false."),
        (
            Annotated[float, Ge(0), Lt(1)],
            False,
            "a.b=false is not allowed: expected a number greater than or equal to 0 and less than 1.",
        ),
        (float, math.inf, "a.b=Infinity is not allowed: expected a number."),
        (Literal["linf", "l2"], "lnf", "a.b=lnf is not allowed: expected one of linf, l2. Did you mean 'linf'?"),
        (Literal["linf", "l2"], 2, "a.b=2 is not allowed: expected one of linf, l2."),
        (
            Sequence[Literal["ce", "margin"]],
            ["ce", "margn"],
            "a.b=[ce,margn] is not allowed: expected a list, each one of ce, margin. Did you mean 'margin'?",
        ),
        (
            Sequence[Literal["ce", "margin"]],
            "ce",
            "a.b=ce is not allowed: expected a list, each one of ce, margin. Did you mean [ce]?",
        ),
        (
            int | Literal["auto"],
            "atuo",
            "a.b=atuo is not allowed: expected a whole number or auto. Did you mean 'auto'?",
        ),
        (str, None, "a.b=null is not allowed: expected text."),
        (tuple[int, int], [1], "a.b=[1] is not allowed: expected a list of a whole number, a whole number."),
    ],
)
def test_sentence(annotation: Any, value: object, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_value("a.b", value, annotation)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (Radius | None, "8/255", 8 / 255),
        (Radius | None, None, None),
        (bool, True, True),
        (bool | None, False, False),
        (Any, True, True),
        (str | None, 3, "3"),
        (tuple[int, ...], [1, 2], (1, 2)),
        (Literal["linf", "l2"], "l2", "l2"),
    ],
)
def test_a_right_value_arrives_converted(annotation: Any, value: object, expected: object) -> None:
    assert checked_value("a.b", value, annotation) == expected
