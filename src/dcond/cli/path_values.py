"""Paths on the command line, quoted for Hydra so that they may be any text."""

import os
import re
from collections.abc import Sequence

from dcond.cli.flags import is_sweep

_PATH_KEY = re.compile(
    r"\+{0,2}(synthetic|against|resume|paths\.\w+|hydra\.(run|sweep)\.(dir|subdir)"
    r"|.+\.(path|weights|checkpoint|data_dir|folder|cache))"
)
_QUOTED = re.compile(r"(?P<mark>['\"])(?:\\.|(?!(?P=mark))[^\\])*(?P=mark)", re.DOTALL)
_SWEEP_PART = re.compile(rf"(?:{_QUOTED.pattern}(?=,|$)|[^,])+", re.DOTALL)
_SWEEP_FUNCTION = re.compile(r"(choice|glob|sort|shuffle|tag)\(.*\)", re.DOTALL)


def quote_path(path: str) -> str:
    r"""Quote a path for Hydra's override grammar; a path that is quoted already stays as it is.

    Example:
        >>> quote_path("runs/a=b, it's")
        "'runs/a=b, it\\'s'"
    """
    if _QUOTED.fullmatch(path):
        return path
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", path)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def unquote_path(value: str) -> str:
    """Return the path in a quoted value; a value that is not quoted stays as it is."""
    if not _QUOTED.fullmatch(value):
        return value
    mark, inner = value[0], value[1:-1]
    inner = re.sub(rf"(\\+){mark}", lambda found: found[1][: len(found[1]) // 2] + mark, inner)
    return re.sub(r"(\\+)$", lambda found: found[1][: len(found[1]) // 2], inner)


def quote_paths(argv: Sequence[str]) -> list[str]:
    """Return the arguments with the values of path settings quoted, so that a path may be any text.

    Values that are quoted already, ``null``, and for ``synthetic`` and ``against`` a mapping in
    braces stay as they are. Under ``-m`` a comma separates values, each of which is quoted. ``~``
    is expanded.
    """
    sweep = is_sweep(argv)
    return [_quote_setting(argument, sweep) for argument in argv]


def _quote_setting(argument: str, sweep: bool) -> str:
    key, _, value = argument.partition("=")
    is_mapping = key.lstrip("+") in ("synthetic", "against") and re.fullmatch(r"\{.*\}", value)
    if not _PATH_KEY.fullmatch(key) or value in ("", "null") or is_mapping:
        return argument
    if not sweep or key.startswith("hydra."):
        return f"{key}={_quote_value(value)}"
    if _SWEEP_FUNCTION.fullmatch(value):
        return argument
    parts = [part[0] for part in _SWEEP_PART.finditer(value)]
    values = (part if part == "null" else _quote_value(part) for part in parts)
    return f"{key}={','.join(values)}"


def _quote_value(value: str) -> str:
    if unquote_path(value).startswith("~"):
        value = os.path.expanduser(unquote_path(value))
    return quote_path(value)
