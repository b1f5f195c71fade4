"""Declared ranges of settings: one annotation per field, checked by pydantic in one place.

A part of a run (a method, a network, a protocol) is a frozen dataclass made by :func:`settings`.
Its annotations say what each field may hold, and a wrong value is refused in one line:

    @settings
    class DM:
        steps: PositiveInt
        lr: PositiveFloat
        space: Literal["pixel", "normalised"] = "pixel"

    DM(steps=0, lr=1.0)   # ConfigError: DM.steps=0 is out of range; allowed: whole numbers from 1.

The command line checks the same annotations before it builds a part, with the part's full key.
"""

import math
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, TypeAdapter, ValidationError

from dcond.errors import ConfigError, did_you_mean, yaml_repr

T = TypeVar("T")

PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
Momentum = Annotated[float, Ge(0), Lt(1)]

_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
_BOUNDS = {Ge: "from {0.ge}", Gt: "above {0.gt}", Le: "up to {0.le}", Lt: "below {0.lt}"}
_PLAIN = (bool, int, float, str, list)
_NAMED = (dict, Mapping)
_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    **dict.fromkeys((tuple, list, Sequence), "a list, in brackets"),
    **dict.fromkeys(_NAMED, "names and values, in braces"),
}


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[T]) -> type[T]:
    """Make a frozen, keyword-only dataclass whose fields are checked against their annotations.

    ``__post_init__``, where the class has one, runs after the fields are known to be valid: it is
    the place for rules about several fields.

    Raises:
        ConfigError: on construction, for a value that its annotation does not allow.
    """
    own: Callable[[T], None] | None = getattr(cls, "__post_init__", None)

    def check(self: T) -> None:
        hints = _hints(type(self))  # type: ignore[arg-type]
        for field in fields(self):  # type: ignore[arg-type]
            key = f"{type(self).__name__}.{field.name}"
            check_value(key, getattr(self, field.name), hints[field.name])
        if own is not None:
            own(self)

    cls.__post_init__ = check  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True)(cls)


def comparable(part: object, name: str) -> object:
    """Return a setting in the form that equal ones share: a list for a tuple, 1.0 for 1."""
    value = getattr(part, name)
    kinds = [_bare(kind) for kind in _kinds(_hints(type(part))[name])]  # type: ignore[arg-type]
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds:
        return float(value)
    return list(value) if isinstance(value, tuple) else value


def check_value(key: str, value: object, annotation: Any) -> None:
    """Raise :class:`ConfigError` unless a value is what an annotation of plain types allows.

    A part of dcond may not be a plain value. Annotations of other kinds are not judged here.

    Args:
        key: the setting's full name, for the message.
        value: plain Python, as YAML gives it.
        annotation: of the parameter; ``Annotated`` bounds and ``Literal`` choices are checked.
    """
    kinds = _kinds(annotation)
    if value is None and type(None) in kinds:
        return
    if not all(_is_plain(kind) for kind in kinds):
        plain = "_target_" not in value if isinstance(value, Mapping) else isinstance(value, _PLAIN)
        if plain and all(_is_plain(kind) or _is_part(kind) for kind in kinds):
            allowed = ", ".join(dict.fromkeys(map(_describe, kinds)))
            raise ConfigError(f"{key}={yaml_repr(value)} must be {allowed}.")
        return
    if isinstance(value, Sequence | Mapping) and not isinstance(value, str):
        named = isinstance(value, Mapping)
        if any(named == (_container(kind) in _NAMED) for kind in kinds if _container(kind)):
            return  # what a container holds is judged by the part that takes it
    try:
        _adapter(annotation).validate_python(value)
    except ValidationError as error:
        raise ConfigError(_message(key, value, kinds, error)) from None


def _message(key: str, value: object, kinds: list[Any], error: ValidationError) -> str:
    choices = [choice for kind in kinds for choice in _choices(kind)]
    reasons = {each["type"] for each in error.errors()}
    allowed = ", ".join(dict.fromkeys(map(_describe, kinds)))
    if choices and isinstance(value, str):
        return (
            f"{key}={value!r} is unknown; allowed: {allowed}."
            f"{did_you_mean(value, [choice for choice in choices if isinstance(choice, str)])}"
        )
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = not isinstance(value, float) or value.is_integer() or math.isinf(value)
    bounded = any(typing.get_origin(kind) is Annotated for kind in kinds)
    is_whole = isinstance(value, float) and abs(value) < 1e15 and value.is_integer()
    if bounded and isinstance(value, float) and is_whole and _fits(int(value), kinds):
        return f"{key}={yaml_repr(value)} must be a whole number; write {int(value)}."
    if number and bounded and (whole or "int_type" not in reasons):
        return f"{key}={yaml_repr(value)} is out of range; allowed: {allowed}."
    types = " or ".join(dict.fromkeys(_NAMES.get(_bare(kind), _describe(kind)) for kind in kinds))
    return f"{key}={yaml_repr(value)} must be {types}."


def _fits(value: object, kinds: list[Any]) -> bool:
    """Return whether a value has one of the types."""
    for kind in kinds:
        with suppress(ValidationError):
            _adapter(kind).validate_python(value)
            return True
    return False


def _kinds(annotation: Any) -> list[Any]:
    """Return the members of a union, or the annotation alone; a type alias counts as its value."""
    annotation = getattr(annotation, "__value__", annotation)
    origin = typing.get_origin(annotation)
    if origin is typing.Union or type(annotation).__name__ == "UnionType":
        return [kind for part in typing.get_args(annotation) for kind in _kinds(part)]
    return [annotation]


def _bare(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _container(kind: Any) -> Any:
    origin = typing.get_origin(_bare(kind)) or _bare(kind)
    return origin if origin in (tuple, list, Sequence, *_NAMED) else None


def _choices(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def _is_plain(kind: Any) -> bool:
    return bool(_choices(kind)) or _container(kind) is not None or _bare(kind) in _NAMES


def _is_part(kind: Any) -> bool:
    return str(getattr(kind, "__module__", "")).startswith("dcond.")


def _describe(kind: Any) -> str:
    if choices := _choices(kind):
        return ", ".join(
            choice if isinstance(choice, str) else yaml_repr(choice) for choice in choices
        )
    if kind is bool:
        return "true, false"
    if typing.get_origin(kind) is not Annotated:
        return _NAMES.get(_container(kind) or kind, "a part, with a _target_ and its settings")
    bounds = [_BOUNDS[type(bound)].format(bound) for bound in kind.__metadata__]
    return ("whole numbers " if _bare(kind) is int else "numbers ") + ", ".join(bounds)


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=_STRICT)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)
