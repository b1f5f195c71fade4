"""Settings are checked against the annotations of their fields."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from dcond.errors import ConfigError
from dcond.settings import (
    Fraction,
    Momentum,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_value,
    settings,
)
from dcond.types import ImageSpec


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, int),
        (1, float),
        (0.5, float),
        (None, float | None),
        (True, bool),
        ("x", str),
        ("x", int | str | None),
        ([1], tuple[float, ...]),
        (["a"], Sequence[str] | None),
        ({"a": 1}, dict[str, int]),
        ({}, Mapping[str, str]),
        ({"_target_": "x"}, ImageSpec),
        (None, ImageSpec | None),
        ("anything", Any),
        ("anything", Exception),  # not ours to judge
    ],
)
def test_values_that_fit(value, annotation):
    check_value("key", value, annotation)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (1.0, int, "key=1.0 must be a whole number."),
        (1000.0, PositiveInt, "key=1000.0 must be a whole number; write 1000."),  # from 1e3
        (True, int, "key=true must be a whole number."),
        (True, float, "key=true must be a number."),
        ("1", float, "key='1' must be a number."),
        (1, bool, "key=1 must be true or false."),
        (None, int, "key=null must be a whole number."),
        (None, str, "key=null must be text."),
        ([], int | str | None, "key=[] must be a whole number or text or null."),
        ("ab", Sequence[str], "key='ab' must be a list, in brackets."),
        ([], dict[str, int], "key=[] must be names and values, in braces."),
        ({"a": 1}, ImageSpec, "key={'a': 1} must be a part, with a _target_ and its settings."),
        (3, ImageSpec | None, "key=3 must be a part, with a _target_ and its settings, null."),
    ],
)
def test_values_that_do_not(value, annotation, message):
    with pytest.raises(ConfigError) as caught:
        check_value("key", value, annotation)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (0, PositiveInt, "key=0 is out of range; allowed: whole numbers from 1."),
        (-1, NonNegativeInt, "key=-1 is out of range; allowed: whole numbers from 0."),
        (1.5, PositiveInt, "key=1.5 must be a whole number."),
        (0, PositiveFloat, "key=0 is out of range; allowed: numbers above 0."),
        (float("inf"), PositiveFloat, "key=inf is out of range; allowed: numbers above 0."),
        (float("nan"), NonNegativeFloat, "key=nan is out of range; allowed: numbers from 0."),
        (1.5, Fraction, "key=1.5 is out of range; allowed: numbers from 0, up to 1."),
        (1, Momentum, "key=1 is out of range; allowed: numbers from 0, below 1."),
        (0, PositiveInt | None, "key=0 is out of range; allowed: whole numbers from 1, null."),
        (
            0,
            PositiveInt | Literal["auto"],
            "key=0 is out of range; allowed: whole numbers from 1, auto.",
        ),
        ("x", bool | Literal["auto"], "key='x' is unknown; allowed: true, false, auto."),
        (3, bool | Literal["auto"], "key=3 must be true or false or auto."),
        (
            "sgdd",
            Literal["sgd", "adamw"],
            "key='sgdd' is unknown; allowed: sgd, adamw. Did you mean 'sgd'?",
        ),
    ],
)
def test_values_out_of_range(value, annotation, message):
    with pytest.raises(ConfigError) as caught:
        check_value("key", value, annotation)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, PositiveInt),
        (0, Fraction),
        (1, Fraction),
        (0.99, Momentum),
        ("auto", PositiveInt | Literal["auto"]),
    ],
)
def test_values_in_range(value, annotation):
    check_value("key", value, annotation)


@settings
class Part:
    steps: PositiveInt
    kernel: Literal["gaussian", "linear"] = "gaussian"

    def __post_init__(self) -> None:
        if self.kernel == "linear" and self.steps > 5:
            raise ConfigError("a linear kernel takes at most 5 steps.")


def test_a_part_checks_its_fields_and_then_its_own_rules():
    assert Part(steps=3).kernel == "gaussian"
    with pytest.raises(
        ConfigError, match=r"^Part\.steps=0 is out of range; allowed: whole numbers from 1\.$"
    ):
        Part(steps=0, kernel="linear")
    with pytest.raises(ConfigError, match="at most 5 steps"):
        Part(steps=6, kernel="linear")
    with pytest.raises(AttributeError):  # frozen
        Part(steps=3).steps = 4
