"""What each command offers: its config groups, their names, its plain settings with their defaults."""

import textwrap
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond.errors import yaml_repr
from dcond.paths import conf_dir

# In the primary configuration for its own reasons: one file only, or a part that the command does
# not use.
_ASIDE = {"condense": ("paths",), "evaluate": ("paths", "model")}
_NOT_FOR = {
    "evaluate": {"sweep": ("optuna",)}
}  # it chooses by held-out accuracy, which only a condensation has
_WIDTH = 112


@cache
def primary_config(command: str) -> DictConfig:
    """Return the primary configuration of a command as it is written."""
    cfg = OmegaConf.load(conf_dir() / f"{command}.yaml")
    assert isinstance(cfg, DictConfig)
    return cfg


def groups(command: str) -> list[str]:
    """Return the config groups of which a command takes ``GROUP=NAME``."""
    entries = (
        str(key)
        for entry in primary_config(command).defaults
        if isinstance(entry, Mapping)
        for key in entry
    )
    named = {
        key.removeprefix("optional ")
        for key in entries
        if not key.startswith("override ") and "@" not in key
    }
    return sorted(named - set(_ASIDE[command]))


def group_options(group: str, folders: Iterable[Path] = (), command: str = "condense") -> list[str]:
    """Return the names that a group offers to a command, sub-folders included; the packaged ones by default."""
    found = {
        path.relative_to(folder / group).with_suffix("").as_posix()
        for folder in folders or (conf_dir(),)
        for path in (folder / group).rglob("*.yaml")
    }
    return sorted(found - set(_NOT_FOR.get(command, {}).get(group, ())))


def _shown_choices(command: str, sources: Iterable[Mapping[str, Any]]) -> str:
    """Write a line per group; where there are families of names, only the families."""
    folders = [Path(source["path"]) for source in sources if source["schema"] == "file"]
    lines = []
    for group in groups(command):
        found = group_options(group, folders, command)
        short = sorted({name.partition("/")[0] + "/..." if "/" in name else name for name in found})
        more = f"; dcond list {group}s shows all {len(found)}" if short != found else ""
        lines.append(f"{group}: {', '.join(short)}{more}")
    return "\n".join(lines)


def _shown_settings(command: str) -> str:
    """Write the settings that belong to no part, each with its default."""
    plain: Any = OmegaConf.to_container(primary_config(command))
    aside = {*groups(command), "name"}  # of the run folder, made of the others
    words = [
        f"{key}={value if isinstance(value, str) else yaml_repr(value)}"
        for key, value in plain.items()
        if key not in aside and not isinstance(value, dict | list)
    ]
    return textwrap.fill(" ".join(words), _WIDTH, break_long_words=False)


OmegaConf.register_new_resolver("dcond.choices", _shown_choices, replace=True)
OmegaConf.register_new_resolver("dcond.settings", _shown_settings, replace=True)
