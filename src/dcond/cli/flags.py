"""Flags of the Hydra commands, such as ``--cfg`` and ``-m``."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dcond.cli.groups import top_level_keys
from dcond.errors import UsageError, did_you_mean

# Hydra's documented flags: those without a value, those with one, and their short names.
_SHORT_SWITCHES = {"-h": "--help", "-m": "--multirun", "-r": "--run", "-sc": "--shell-completion"}
_SWITCHES = {*_SHORT_SWITCHES.values(), "--hydra-help", "--resolve", "--version"}
_SHORT = _SHORT_SWITCHES | {
    "-c": "--cfg",
    "-cd": "--config-dir",
    "-cn": "--config-name",
    "-cp": "--config-path",
    "-i": "--info",
    "-p": "--package",
}
_FLAGS = {*_SHORT.values(), *_SWITCHES}
_EXCLUSIVE = ("--run", "--multirun", "--cfg", "--info", "--shell-completion")
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_FLAG_VALUES = {"--cfg": ("job", "hydra", "all"), "--info": _INFO}
_MULTIRUN = re.compile(r"\+*hydra\.mode=['\"]?MULTIRUN['\"]?")
_COMPLETION = re.compile("(install|uninstall|query)=(bash|fish|zsh)")


class Arguments(NamedTuple):
    """The arguments of a Hydra command; ``flags`` includes the values of flags."""

    overrides: list[str]
    flags: list[str]


def split_flags(argv: Sequence[str], command: str) -> Arguments:
    """Split arguments into overrides and flags, with long names; Hydra expects overrides first.

    Raises:
        UsageError: An unknown flag, a flag without its value, or flags that exclude each other.
    """
    overrides: list[str] = []
    flags: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flag, has_value, value = argument.partition("=")
        name = _SHORT.get(flag, flag)
        if name not in _FLAGS or (has_value and name in _SWITCHES):
            raise UsageError(_unknown_flag(flag, command))
        flags.append(name)
        if name in _SWITCHES:
            continue
        if not has_value:
            is_omitted = name == "--info" and (not rest or rest[0] not in _INFO)
            value = "all" if is_omitted else "".join(rest[:1])
            rest = rest if is_omitted else rest[1:]
        allowed = _FLAG_VALUES.get(name, ())
        if not value or (allowed and value not in allowed):
            raise UsageError(f"{name} needs a value{': ' if allowed else ''}{', '.join(allowed)}.")
        if name == "--config-path":
            value = _config_path(value)
        flags.append(value)
    _check_together(flags, overrides)
    return Arguments(overrides, flags)


def _check_together(flags: Sequence[str], overrides: Sequence[str]) -> None:
    """Raise :class:`UsageError` for flags that exclude or need each other."""
    exclusive = [flag for flag in _EXCLUSIVE if flag in flags]
    if len(exclusive) > 1:
        raise UsageError(f"{' and '.join(exclusive)} exclude each other; omit one.")
    for flag in ("--resolve", "--package"):
        if flag in flags and "--cfg" not in flags:
            raise UsageError(f"{flag} needs --cfg, such as --cfg job; add it, or omit {flag}.")
    if "--shell-completion" in flags and not _COMPLETION.fullmatch(" ".join(overrides)):
        raise UsageError(
            "--shell-completion needs install=SHELL or uninstall=SHELL: bash, fish, zsh."
        )


def is_sweep(argv: Sequence[str]) -> bool:
    """Return whether arguments ask for a sweep."""
    return any(each in ("-m", "--multirun") or _MULTIRUN.fullmatch(each) for each in argv)


def _unknown_flag(flag: str, command: str) -> str:
    """Return the message for an unknown flag, which may be a setting written as a flag."""
    key = flag.lstrip("-").replace("-", "_")
    if key.partition(".")[0] in top_level_keys(command):
        return f"{flag} is not a flag; write {key}=VALUE."
    hint = did_you_mean(flag, _FLAGS) or " Settings are written KEY=VALUE."
    return f"{flag} is not a flag.{hint} See dcond {command} --help."


def _config_path(value: str) -> str:
    """Return the absolute path of a folder of configurations: Hydra would seek it in its caller."""
    if "://" in value:
        return value
    if not Path(value).is_dir():
        raise UsageError(f"--config-path={value} is not a folder; give that of a configuration.")
    return str(Path(value).absolute())


def config_folders(flags: Sequence[str]) -> list[Path]:
    """Return the folders given by ``--config-dir``."""
    return [Path(value) for flag, value in itertools.pairwise(flags) if flag == "--config-dir"]
