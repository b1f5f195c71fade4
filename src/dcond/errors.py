"""Errors that the user can fix, and helpers for their messages.

A message says in one line what is wrong, the value, what is allowed, and what to do.
"""

import difflib
import pickle
import re
import shlex
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Sequence

MAX_SUGGESTED = 4  # names after "Did you mean"
# What numpy, torch and zipfile raise for a file that is damaged or of another format.
READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    AttributeError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
)


class DcondError(Exception):
    """An error that the user can fix; the command line prints it as one line and exits with 1."""


class ConfigError(DcondError):
    """A setting is unknown, out of range, or contradicts another."""


class UsageError(ConfigError):
    """Wrong flags; the command line exits with 2."""


class DataError(DcondError):
    """A data set cannot be read or used."""


class ArtefactError(DcondError):
    """The file of a synthetic set cannot be read or written, or has another format."""


class CheckpointError(DcondError):
    """A run cannot be resumed from a folder."""


class DivergedError(DcondError):
    """A loss, or the weights of a network, became non-finite."""


class LostError(DcondError):
    """Another process of the same run ended unexpectedly."""


class UnsupportedError(DcondError):
    """A combination of settings that dcond does not support."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where the message is empty."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the allowed name nearest to ``name``, or an empty string.

    Private names, which begin with an underscore, are never suggested.
    """
    public = [str(option) for option in allowed if not str(option).startswith("_")]
    close = difflib.get_close_matches(name, public, n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def suggest(names: Sequence[str]) -> str:
    """Return ``" Did you mean A, B or C?"``, or an empty string where there are no names."""
    listed = " or ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])
    return f" Did you mean {listed}?" if names else ""


def list_override(key: str, names: Iterable[str]) -> str:
    """Return ``KEY=[A,B]`` as a word for a shell; names are quoted where Hydra needs it.

    Example:
        >>> print(list_override("dataset.classes", ["Ankle boot", "7"]))
        'dataset.classes=[Ankle boot,"7"]'
    """
    return shlex.quote(f"{key}=[{','.join(map(_quote, names))}]")


def _quote(name: str) -> str:
    is_text = name.lower() not in ("null", "true", "false", "nan", "inf")
    if is_text and re.fullmatch(r"[a-z]\w*([ /.-]\w+)*", name, re.ASCII | re.IGNORECASE):
        return name
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', name)
    return '"' + re.sub(r"(\\+)$", r"\1\1", escaped) + '"'


def require(condition: bool, message: str) -> None:
    """Raise :class:`ConfigError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(message)


def one_of(what: str, value: str, allowed: Iterable[str]) -> None:
    """Raise :class:`ConfigError` unless ``value`` is among ``allowed``, and suggest the nearest."""
    names = list(allowed)
    if value not in names:
        raise ConfigError(
            f"{what}={value!r} is unknown; allowed: {', '.join(names)}."
            f"{did_you_mean(str(value), names)}"
        )


def yaml_repr(value: object) -> str:
    """Return the representation of a value in YAML where Python's differs."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)
