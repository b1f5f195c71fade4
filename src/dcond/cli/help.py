"""``dcond COMMAND --help`` of the Hydra commands, read from ``conf/``; it imports no torch."""

import textwrap
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from dcond.cli.flags import config_folders, split_flags
from dcond.cli.groups import group_options, groups, primary_config
from dcond.cli.torchrun import is_main_process
from dcond.errors import yaml_repr
from dcond.paths import conf_dir

_WIDTH = 100


def main(argv: Sequence[str]) -> int:
    """Print the help of the command that the first argument names; return the exit status."""
    command, *arguments = argv
    if is_main_process():
        print(help_text(command, split_flags(arguments, command).flags), end="")
    return 0


def help_text(command: str, flags: list[str]) -> str:
    """Return the text of ``dcond COMMAND --help``, read from the configuration files."""
    names = groups(command)
    folders = [conf_dir(), *config_folders(flags)]
    lines = []
    for group in names:
        options = group_options(group, folders, command)
        families = sorted({x.partition("/")[0] + "/..." if "/" in x else x for x in options})
        more = f"; dcond list {group}s shows all {len(options)}" if families != options else ""
        lines.append(f"{group}: {', '.join(families)}{more}")
    primary: Any = OmegaConf.to_container(primary_config(command))
    settings = [
        f"{key}={value if isinstance(value, str) else yaml_repr(value)}"
        for key, value in primary.items()
        if key not in {*names, "name"} and not isinstance(value, dict | list)
    ]
    template = (conf_dir() / f"{command}.txt").read_text(encoding="utf-8")
    plain = textwrap.fill(" ".join(settings), _WIDTH, break_long_words=False)
    return template.format(choices="\n".join(lines), settings=plain)
