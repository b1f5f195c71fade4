"""Overrides of the Hydra commands, checked before Hydra reads them."""

import os
import re
from collections.abc import Sequence

from dcond.cli.flags import Arguments, is_sweep, split_flags
from dcond.cli.groups import (
    LIST_GROUPS,
    OPTIONAL_GROUPS,
    group_options,
    groups,
    is_group,
    top_level_keys,
)
from dcond.cli.path_values import quote_path
from dcond.errors import MAX_SUGGESTED, ConfigError, UsageError, did_you_mean, suggest

_OVERRIDE = re.compile(r"(?P<prefix>\+{0,2}|~)(?P<key>[^=+~][^=]*)(?P<value>=.*)?", re.DOTALL)
_OF_SWEEPS = re.compile(r"sweep|hydra[./](sweep|sweeper|launcher)\b.*")
# What may differ from job to job: settings and Hydra's own names.
_OF_A_JOB = re.compile(r"\$\{(?!(now|paths|oc\.env|oc\.decode)[:.])")
_OF_HYDRA = re.compile(r"sweep|hydra\b(?!\.searchpath).*")
_SHOWING = {"--cfg", "--info", "--hydra-help", "--version"}  # run nothing
_MAX_LISTED = 30  # names in an error message


def parse(override: str) -> tuple[str, str, str]:
    """Split an override into prefix, key and value; all empty where it is not one."""
    parts = _OVERRIDE.fullmatch(override)
    return (parts["prefix"], parts["key"], (parts["value"] or "")[1:]) if parts else ("", "", "")


def expand_path_arguments(argv: list[str]) -> list[str]:
    """Rewrite ``synthetic=FILE`` and ``against=FILE`` to their ``.path`` form.

    The first argument that is no override, flag or value of a flag is the path of the set.

    Raises:
        UsageError: As :func:`split_flags`.
    """
    arguments = [re.sub(r"^(synthetic|against)=(?!\{)", r"\1.path=", argument) for argument in argv]
    if any(re.match(r"\+*synthetic(\.path)?=", argument) for argument in arguments):
        return arguments
    overrides, flags = split_flags(arguments, "evaluate")
    for index, argument in enumerate(overrides):
        if _is_path(argument):
            overrides[index] = f"synthetic.path={quote_path(argument)}"
            return [*overrides, *flags]
    return arguments


def _is_path(argument: str) -> bool:
    """Return whether an argument of ``dcond evaluate`` is no override.

    An existing path may hold ``=`` or begin with ``+`` or ``~``, unless it reads as an override of
    a setting.
    """
    if not argument or ("=" not in argument and argument[0] not in "+~"):
        return bool(argument)
    top = re.split(r"[.@/]", parse(argument)[1])[0]
    return top not in {*top_level_keys("evaluate"), "hydra"} and os.path.exists(argument)


def check_mode(arguments: Arguments) -> None:
    """Refuse settings of sweeps without ``-m``, and the folder of a single run with it.

    Raises:
        UsageError: Hydra would ignore one of them.
    """
    if _SHOWING & set(arguments.flags):
        return
    sweep = is_sweep([*arguments.flags, *arguments.overrides])
    for override in arguments.overrides:
        key = parse(override)[1] if "=" in override else ""  # a path or a deletion
        if sweep and key == "hydra.run.dir":
            raise UsageError(f"{override} does not apply to sweeps; use hydra.sweep.dir=FOLDER.")
        if key == "hydra.sweep.dir" and _OF_A_JOB.search(override):
            raise UsageError(
                f"{override} may differ from job to job; name one folder for all, and that of a "
                "job within it by hydra.sweep.subdir=NAME."
            )
        if not sweep and _OF_SWEEPS.fullmatch(key):
            raise UsageError(f"{override} applies to sweeps only; add -m, or omit it.")


def is_of_hydra(override: str) -> bool:
    """Return whether an override has an effect only where Hydra runs the command."""
    return _OF_HYDRA.fullmatch(parse(override)[1]) is not None


def check_overrides(argv: Sequence[str], command: str) -> None:
    """Check syntax, config groups, options and deletions, for which Hydra suggests nothing.

    Options are not checked where the arguments add folders of configuration files.

    Raises:
        ConfigError: An argument is not an override, names a group or an option that the command
            does not have, or deletes a setting that the command needs.
    """
    overrides, flags = split_flags(argv, command)
    check_override_syntax(overrides)
    searched = any(override.startswith("hydra.searchpath") for override in overrides)
    has_own_options = searched or {"--config-dir", "--config-path"} & set(flags)
    for override in overrides:
        prefix, key, value = parse(override)
        group = key.partition("@")[0]  # pool@learners takes the options of pool
        if prefix == "~" and key in top_level_keys(command) - OPTIONAL_GROUPS:
            raise ConfigError(
                f"{override} removes a required setting; omit it, or write {key}=VALUE."
            )
        if prefix == "~" or not is_group(group) or not value:
            continue
        if value.startswith("[") and group not in LIST_GROUPS:
            raise ConfigError(
                f"{override} is a list, but {key} takes one name; for a sweep write {key}=A,B and "
                "add -m."
            )
        if group == key and group != "paths" and group not in groups(command):
            allowed = ", ".join(groups(command))
            raise ConfigError(f"{group} is not an option of dcond {command}; allowed: {allowed}.")
        if not has_own_options:
            for name in value.split(","):
                _check_option(group, name, command)


def _check_option(group: str, name: str, command: str) -> None:
    options = group_options(group, command=command)
    if name in options or not re.fullmatch(r"[\w/-]+", name):  # the rest is left to Hydra
        return
    if name == "null" and group in OPTIONAL_GROUPS:
        hint = f" For none, omit it or write ~{group}."
    else:
        family = sorted((x for x in options if f"/{name}" in f"/{x}"), key=lambda x: (len(x), x))
        is_family = family and any("/" in option for option in options)
        hint = suggest(sorted(family[:MAX_SUGGESTED])) if is_family else did_you_mean(name, options)
    if len(options) > _MAX_LISTED:
        raise ConfigError(f"{group}={name!r} is unknown; see dcond list {group}s.{hint}")
    raise ConfigError(f"{group}={name!r} is unknown; allowed: {', '.join(options)}.{hint}")


def check_override_syntax(overrides: Sequence[str]) -> None:
    """Raise :class:`ConfigError` for an override without ``=`` or without a key, such as ``=3``."""
    for override in overrides:
        parts = _OVERRIDE.fullmatch(override)
        if parts is None or (parts["value"] is None and parts["prefix"] != "~"):
            raise ConfigError(f"{override!r} is not an override; write KEY=VALUE without spaces.")
