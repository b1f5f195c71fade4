"""Hydra's flags: told from settings, and refused in one line where there is no such flag."""

import re
from argparse import ArgumentParser
from typing import NoReturn

from dcond.cli.config_groups import groups, primary_config
from dcond.errors import UsageError, did_you_mean

_ALONE = {
    "--run": "run",
    "-m": "multirun",
    "--cfg": "cfg",
    "--info": "info",
    "-sc": "shell_completion",
}
_COMPLETION = re.compile("(install|uninstall|query)=(bash|fish|zsh)")


def reorder_overrides(argv: list[str], command: str) -> list[str]:
    """Return the words with all settings before all flags, as Hydra takes them: ``ipc=1 -m seed=0,1`` it would refuse.

    Raises:
        UsageError: a flag that there is not, or one without its value or with a wrong one.
    """
    settings, words = _settings(argv, command)
    # Once more by what is found: a word such as `foo` after a flag is a setting too, and told to be
    # a wrong one.
    return [*settings, *_without(words, settings)]


def positional_arguments(argv: list[str], command: str) -> list[str]:
    """Return the words that are neither a setting nor a flag nor a flag's value.

    Raises:
        UsageError: as :func:`settings_first`.
    """
    return [
        word
        for word in _settings(argv, command)[0]
        if word and "=" not in word and word[0] not in "+~"
    ]


def _settings(argv: list[str], command: str) -> tuple[list[str], list[str]]:
    """Return what is no flag and no flag's value, and all words with what is surely a setting first."""
    from hydra._internal.utils import get_args_parser  # what hydra.main reads the words with

    words = sorted(argv, key=_may_be_of_a_flag)
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    known, left = parser.parse_known_args(
        [word for word in words if word != "--version"]
    )  # which would end it here
    for word in left:
        if word.startswith("-"):
            raise UsageError(_no_flag(word, argv, command, parser))
    if known.shell_completion and not _COMPLETION.fullmatch(" ".join(known.overrides)):
        raise UsageError(
            "--shell-completion wants one of install=bash, uninstall=bash; fish and zsh too."
        )
    asked = [flag for flag, name in _ALONE.items() if getattr(known, name)]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} do not go together; leave out one.")
    return [*known.overrides, *left], words


def _may_be_of_a_flag(word: str) -> bool:
    return word.startswith("-") or not (word.startswith("~") or "=" in word)


def _without(words: list[str], others: list[str]) -> list[str]:
    rest, gone = [], list(others)
    for word in words:
        if word in gone:
            gone.remove(word)
        else:
            rest.append(word)
    return rest


def _refuse(message: str) -> NoReturn:
    raise UsageError(f"{message}.")


def _no_flag(word: str, argv: list[str], command: str, parser: ArgumentParser) -> str:
    """Say of a word that it is no flag, and how the setting of its name is written, if there is one."""
    flag, said, value = word.partition("=")
    key = flag.lstrip("-").replace("-", "_")
    if key.split(".")[0] in {*groups(command), *map(str, primary_config(command))} - {
        "defaults",
        "hydra",
    }:
        after = argv[argv.index(word) + 1 :][:1]
        if not said:
            value = (
                after[0]
                if after and "=" not in after[0] and not after[0].startswith("-")
                else "VALUE"
            )
        return f"{flag} is no flag; write {key}={value}."
    flags = [option for action in parser._actions for option in action.option_strings]
    hint = did_you_mean(flag, flags) if flag.startswith("--") else ""
    return f"{flag} is no flag{f'.{hint}' if hint else '; settings are written KEY=VALUE.'} See dcond {command} --help."
