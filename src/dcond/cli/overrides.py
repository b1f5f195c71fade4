"""The words of the command line: checked before Hydra takes them, and what Hydra says of them told in one line."""

import re
from collections.abc import Sequence

from dcond.cli.config_groups import group_options, groups, primary_config
from dcond.cli.unknown import unknown_key
from dcond.errors import ConfigError, did_you_mean
from dcond.paths import conf_dir

_CAN_BE_NONE = ("teacher", "tuned", "experiment", "sweep", "debug")
_LIST_UP_TO = 30  # names that a message can hold
_SUGGEST = 4


def check_choices(argv: list[str], command: str) -> None:
    """Raise :class:`ConfigError` for ``group=name`` where the command has no such group, or the group no such file.

    Hydra refuses such a word too, but without a suggestion. A sweep's lists are checked word by
    word; anything cleverer is left to Hydra, and so are all names where own folders of configs are
    given.
    """
    check_override_syntax(argv)
    check_groups(argv, command)
    check_deletions(argv, command)
    if any(
        word.startswith(("--config-dir", "-cd", "--config-path", "-cp", "hydra.searchpath"))
        for word in argv
    ):
        return
    for word in argv:
        key, _, value = word.partition("=")
        group = key.removeprefix("+").partition("@")[0]  # pool@learners takes the names of pool
        folder = conf_dir() / group
        if word.startswith("-") or not value or not group.isidentifier() or not folder.is_dir():
            continue
        allowed = group_options(group, command=command)
        for name in value.split(","):
            if (
                name.replace("_", "").replace("-", "").replace("/", "").isalnum()
                and name not in allowed
            ):
                none = name == "null" and group in _CAN_BE_NONE
                hint = (
                    f" For none, leave the word out, or write ~{group}."
                    if none
                    else _nearest(name, allowed)
                )
                among = f"; allowed: {', '.join(allowed)}." if len(allowed) <= _LIST_UP_TO else "."
                more = "" if len(allowed) <= _LIST_UP_TO else f" All there are: dcond list {group}s"
                raise ConfigError(f"{group}={name!r} is unknown{among}{hint}{more}")


def _nearest(name: str, allowed: list[str]) -> str:
    """Suggest names that begin as one does, whole or after their family's; else the nearest, if there is one."""
    starts = (
        [each for each in allowed if f"/{each}".find(f"/{name}") >= 0]
        if any("/" in each for each in allowed)
        else []
    )
    if not starts:
        return did_you_mean(name, allowed)
    first = sorted(sorted(starts, key=lambda each: (len(each), each))[:_SUGGEST])
    return (
        f" Did you mean {' or '.join([', '.join(first[:-1]), first[-1]] if first[1:] else first)}?"
    )


def check_groups(argv: list[str], command: str) -> None:
    """Raise :class:`ConfigError` for ``group=name`` of a packaged group that the command has no use for."""
    offered = groups(command)
    why = ", since the set is made already" if command == "evaluate" else ""
    for word in argv:
        group, is_setting, _ = word.lstrip("+").partition("=")
        packaged = group.isidentifier() and group != "paths" and (conf_dir() / group).is_dir()
        if is_setting and packaged and group not in offered:
            raise ConfigError(
                f"{group} is no choice of dcond {command}{why}; there are: {', '.join(offered)}."
            )


def check_deletions(argv: list[str], command: str) -> None:
    """Raise :class:`ConfigError` for ``~KEY`` of a choice or a setting that every run of the command needs."""
    needed = {*groups(command), *map(str, primary_config(command))} - {
        *_CAN_BE_NONE,
        "defaults",
        "hydra",
    }
    for word in argv:
        key = word.removeprefix("~").partition("=")[0]
        if word.startswith("~") and key in needed:
            raise ConfigError(
                f"{word} leaves nothing to use; leave the word out, or give {key} another value."
            )


def check_override_syntax(argv: list[str]) -> None:
    """Raise :class:`ConfigError` for a word without a name before its ``=``, such as ``=3`` and ``+=``."""
    for word in argv:
        if re.match(r"[+~]*=", word):
            raise ConfigError(f"{word!r} names no setting; write KEY=VALUE without a space.")


def hydra_error_message(error: Exception, argv: Sequence[str] = (), command: str = "") -> str:
    """Say in one line what Hydra or OmegaConf says in many.

    Args:
        error: theirs.
        argv: the words of the command line.
        command: the sub-command, where it can show its configuration.
    """
    words = " ".join(str(error).partition("Config search path")[0].split())
    if words.startswith("Config group override"):
        return f"a part is chosen by a name: {words!r}."
    if isinstance(override := getattr(error, "override", None), str):
        return (
            f"{override!r} is no setting; write KEY=VALUE without spaces, in quotes where the value holds a comma, "
            "brackets or spaces: 'KEY=[A, B]'."
        )
    if several := re.match(r"Ambiguous value for argument '(.+?)' 1\. ", words):
        return f"{several[1]} names several values; add -m to run one after another, or write KEY=[A,B] for a list."
    if unknown := unknown_key(error, argv, command):
        return unknown
    hint = ""
    plugin = re.match(r".*Could not find 'hydra/(?:launcher|sweeper)/([a-z]+)", words)
    if plugin is not None:
        extra = {"submitit": "slurm"}.get(plugin[1], plugin[1])
        hint = f" If its package is not installed: pip install 'dcond[{extra}]'."
    return f"{words.rstrip('.')}.{hint}"
