"""Checks of settings against the parts they are for, before any part is made: YAML itself has no types."""

import inspect
import pkgutil
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from dcond.errors import ConfigError, did_you_mean, first_line, require, yaml_repr

_LISTS = (tuple, list, Sequence)
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    **dict.fromkeys(_LISTS, "a list, in brackets"),
    **dict.fromkeys((dict, Mapping), "names and values, in braces"),
}
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_PART = "a part, with a _target_ and its settings"


def validate_targets(node: Any, where: str) -> None:
    """Hold every ``_target_`` in a node against the signature it names; nested parts first.

    Args:
        node: plain containers, interpolations resolved.
        where: how the command line calls the node, such as ``method``.

    Raises:
        ConfigError: a setting that the part does not have, one that it lacks, or a value of another
            type.
    """
    if isinstance(node, list):
        for index, part in enumerate(node):
            validate_targets(part, f"{where}.{index}")
    if not isinstance(node, Mapping):
        return
    for key, part in node.items():
        validate_targets(part, f"{where}.{key}")
    if "_target_" in node:
        settings = {key: value for key, value in node.items() if not key.startswith("_")}
        complete = "_args_" not in node and not node.get(
            "_partial_"
        )  # else the rest is given in another way
        _check_part(str(node["_target_"]), settings, where, complete=complete)


def _check_part(target: str, settings: dict[str, Any], where: str, *, complete: bool) -> None:
    try:
        part = pkgutil.resolve_name(target)
    except Exception as error:  # a module of the user's own may fail in any way
        reason = first_line(error)
        raise ConfigError(
            f"{where}: {target} cannot be imported ({reason}). Install its package, or put its folder into PYTHONPATH."
        ) from error
    try:
        parameters = dict(inspect.signature(part).parameters)
    except (TypeError, ValueError):  # one that tells nothing: making it says why
        return
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    parameters = {name: each for name, each in parameters.items() if each.kind in _NAMED}
    for key, value in settings.items():
        known = key in parameters or takes_any
        hint = "" if known else did_you_mean(key, parameters)
        require(known, f"{where}.{key} is unknown; {target} takes {', '.join(parameters)}.{hint}")
        if key in parameters:
            check_type(f"{where}.{key}", value, parameters[key].annotation)
    for name, parameter in parameters.items():
        needed = complete and parameter.default is parameter.empty
        require(name in settings or not needed, f"{where}.{name} is missing; {target} needs it.")


def check_type(key: str, value: Any, annotation: Any) -> None:
    """Raise :class:`ConfigError` unless a value fits an annotation of plain types, containers and parts of dcond.

    What is in a container is not judged, and nothing is where the annotation names a type of
    another kind.
    """
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    allowed = [
        typing.get_origin(kind) or kind
        for kind in (typing.get_args(annotation) if union else (annotation,))
    ]
    words = [_WORDS.get(kind, _PART if _is_part(kind) else "") for kind in allowed]
    if all(words):
        fits = any(_fits(value, kind) for kind in allowed)
        require(fits, f"{key}={yaml_repr(value)} must be {' or '.join(dict.fromkeys(words))}.")


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):  # which Python counts among the integers
        return kind is bool
    if kind in _LISTS:
        return isinstance(value, list)
    if _is_part(kind):
        return isinstance(value, Mapping) and "_target_" in value
    return isinstance(value, int | float if kind is float else kind)


def _is_part(kind: Any) -> bool:
    return str(getattr(kind, "__module__", "")).startswith("dcond.")
