"""The one family of errors that are the user's to mend.

Every message says what is wrong, the value, what is allowed and the way out, in one line.
"""

import difflib
from collections.abc import Iterable


class DcondError(Exception):
    """A fault the user can mend; the command line prints it as one line and exits with 1."""


class ConfigError(DcondError):
    """A setting is unknown, out of range, or contradicts another."""


class UsageError(ConfigError):
    """A flag that there is not; the exit status is 2, as of every wrong usage."""


class DataError(DcondError):
    """A data set cannot be read, or holds something that cannot be used."""


class ArtefactError(DcondError):
    """A synthetic set's file cannot be read or written, or is not one."""


class CheckpointError(DcondError):
    """A run cannot be resumed from this folder."""


class DivergedError(DcondError):
    """A loss, or a network's weights, stopped being finite."""


class LostError(DcondError):
    """Another process of the same run ended before its time."""


class UnsupportedError(DcondError):
    """A combination that dcond does not offer, and says so instead of guessing."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind where it says nothing."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the allowed word nearest to ``word``, or an empty string."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def require(condition: bool, message: str) -> None:
    """Raise :class:`ConfigError` with ``message`` unless ``condition`` holds (for checks of settings)."""
    if not condition:
        raise ConfigError(message)


def one_of(what: str, value: str, allowed: Iterable[str]) -> None:
    """Raise :class:`ConfigError` unless ``value`` is among ``allowed``; the nearest allowed word is suggested."""
    names = list(allowed)
    if value not in names:
        raise ConfigError(
            f"{what}={value!r} is unknown; allowed: {', '.join(names)}.{did_you_mean(str(value), names)}"
        )


def whole_number(what: str, value: object, least: int = 1) -> None:
    """Raise :class:`ConfigError` unless ``value`` is an integer of ``least`` or more; true and false are none."""
    good = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(
        good, f"{what}={yaml_repr(value)} is out of range; allowed: whole numbers from {least}."
    )


def yaml_repr(value: object) -> str:
    """Write a value as YAML does where Python differs."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)
