"""Config groups of the Hydra commands and their options."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from dcond.paths import conf_dir

OPTIONAL_GROUPS = {"teacher", "tuned", "experiment", "sweep", "debug"}
LIST_GROUPS = {"experiment"}  # several files can be combined: experiment=[a,b]
# Groups of the primary configuration that a command does not offer: one option only, or not used.
_HIDDEN_GROUPS = {
    "condense": {"paths"},
    "evaluate": {"paths", "model"},
    "experts": {"paths", "pool", "evaluation"},
}
# optuna chooses by held-out accuracy, which an evaluation does not have.
# teacher=rded trains the network that condenses, which an evaluation does not know.
_HIDDEN_OPTIONS = {("evaluate", "sweep"): {"optuna"}, ("evaluate", "teacher"): {"rded"}}


@cache
def primary_config(command: str) -> DictConfig:
    """Return a command's primary configuration: its file, over the base file if it lists that."""
    cfg = OmegaConf.load(conf_dir() / f"{command}.yaml")
    assert isinstance(cfg, DictConfig)
    if "base" not in cfg.defaults:
        return cfg
    merged = OmegaConf.merge(OmegaConf.load(conf_dir() / "base.yaml"), cfg)
    assert isinstance(merged, DictConfig)
    return merged


def groups(command: str) -> list[str]:
    """Return the config groups for which a command takes ``GROUP=NAME``."""
    defaults = primary_config(command).defaults
    entries = (str(key) for entry in defaults if isinstance(entry, Mapping) for key in entry)
    names = (key.removeprefix("optional ") for key in entries if not key.startswith("override "))
    return sorted({name for name in names if "@" not in name} - _HIDDEN_GROUPS.get(command, set()))


def group_options(group: str, folders: Iterable[Path] = (), command: str = "condense") -> list[str]:
    """Return the options of a group, those in sub-folders included.

    Args:
        group: Name of the group, such as ``method``.
        folders: Folders of configuration files; by default the packaged one.
        command: The command for which the options are meant.
    """
    found = {
        path.relative_to(folder / group).with_suffix("").as_posix()
        for folder in folders or (conf_dir(),)
        for path in (folder / group).rglob("*.yaml")
    }
    return sorted(found - _HIDDEN_OPTIONS.get((command, group), set()))


def is_group(group: str) -> bool:
    """Return whether a name is that of a config group."""
    return group.isidentifier() and (conf_dir() / group).is_dir()


def top_level_keys(command: str) -> set[str]:
    """Return the settings and groups at the top of a command's configuration."""
    return {*groups(command), *map(str, primary_config(command))} - {"defaults", "hydra"}
