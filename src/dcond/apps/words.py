"""The words of the command line: checked before Hydra takes them, and what Hydra says of them told in one line."""

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond.apps.choices import groups, names
from dcond.errors import ConfigError, nearest
from dcond.paths import conf_dir

_CAN_BE_NONE = ("teacher", "tuned", "experiment", "sweep", "debug")


def check_choices(argv: list[str], command: str) -> None:
    """Raise :class:`ConfigError` for ``group=name`` where the command has no such group, or the group no such file.

    Hydra refuses such a word too, but without a suggestion. A sweep's lists are checked word by word; anything cleverer
    is left to Hydra, and so are all names where own folders of configs are given.
    """
    check_named(argv)
    check_groups(argv, command)
    if any(word.startswith(("--config-dir", "-cd", "--config-path", "-cp", "hydra.searchpath")) for word in argv):
        return
    for word in argv:
        key, _, value = word.partition("=")
        group = key.removeprefix("+").partition("@")[0]  # pool@learners takes the names of pool
        folder = conf_dir() / group
        if word.startswith("-") or not value or not group.isidentifier() or not folder.is_dir():
            continue
        allowed = names(group, command=command)
        for name in value.split(","):
            if name.replace("_", "").replace("-", "").replace("/", "").isalnum() and name not in allowed:
                none = name == "null" and group in _CAN_BE_NONE
                hint = f" For none, leave the word out, or write ~{group}." if none else nearest(name, allowed)
                raise ConfigError(f"{group}={name!r} is unknown; allowed: {', '.join(allowed)}.{hint}")


def check_groups(argv: list[str], command: str) -> None:
    """Raise :class:`ConfigError` for ``group=name`` of a packaged group that the command has no use for."""
    offered = groups(command)
    why = ", since the set is made already" if command == "evaluate" else ""
    for word in argv:
        group, is_setting, _ = word.lstrip("+").partition("=")
        packaged = group.isidentifier() and group != "paths" and (conf_dir() / group).is_dir()
        if is_setting and packaged and group not in offered:
            raise ConfigError(f"{group} is no choice of dcond {command}{why}; there are: {', '.join(offered)}.")


def check_named(argv: list[str]) -> None:
    """Raise :class:`ConfigError` for a word without a name before its ``=``, such as ``=3`` and ``+=``."""
    for word in argv:
        if re.match(r"[+~]*=", word):
            raise ConfigError(f"{word!r} names no setting; write KEY=VALUE without a space.")


def hydra_words(error: Exception) -> str:
    """Say in one line what Hydra or OmegaConf says in many; for an unknown key, add the nearest there is."""
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
    cause = error.__cause__
    parent, key = getattr(cause, "parent_node", None), getattr(cause, "key", None)
    if isinstance(parent, DictConfig) and "hydra" in parent:  # the root: what a + would add there nothing reads
        words, _, append = words.partition(" To append to your config use +")
        if meant := _meant(parent, str(key), append.partition("=")[2]):
            return f"{key} is no setting here; {meant}."
    hint = nearest(str(key), map(str, parent)) if isinstance(parent, DictConfig) else ""
    plugin = re.match(r".*Could not find 'hydra/(?:launcher|sweeper)/([a-z]+)", words)
    if plugin is not None:
        extra = {"submitit": "slurm"}.get(plugin[1], plugin[1])
        hint = f" If its package is not installed: pip install 'dcond[{extra}]'."
    return f"{words.rstrip('.')}.{hint}"


def _meant(cfg: DictConfig, key: str, value: str) -> str:
    """Return which settings of parts have the name of one that there is not; empty where none has."""
    found = sorted(_places(OmegaConf.to_container(cfg), key), key=lambda place: place.count("."))
    found.sort(key=lambda place: not place.startswith("method."))  # the likeliest first
    if not found:
        return ""
    return f"{', '.join(found)} {'is' if len(found) == 1 else 'are'}: {found[0]}={value}"


def _places(node: Any, key: str) -> Iterator[str]:
    """Yield where a key stands in the parts of a configuration, by its full name."""
    for name, part in node.items():
        if not isinstance(part, dict) or name == "hydra":
            continue
        if key in part:
            yield f"{name}.{key}"
        yield from (f"{name}.{place}" for place in _places(part, key))


def check_added(cfg: DictConfig) -> None:
    """Raise :class:`ConfigError` for ``+KEY=VALUE`` that adds to the configuration what nothing in it reads."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser

    job = HydraConfig.get()
    primary = conf_dir() / f"{job.job.config_name}.yaml"
    if not primary.is_file():  # a user's own
        return
    base = OmegaConf.load(primary)
    parts = {str(group).split("@")[-1] for entry in base.defaults if isinstance(entry, DictConfig) for group in entry}
    text = OmegaConf.to_yaml(cfg) + OmegaConf.to_yaml(job)
    words: Any = OmegaConf.to_container(job.overrides.task)
    for word in OverridesParser.create().parse_overrides(words):
        key = word.key_or_group
        if not (word.is_add() or word.is_force_add()) or word.package or "/" in key or key in job.runtime.choices:
            continue
        top = key.split(".")[0]
        if top in parts or top in base or re.search(rf"\$\{{[^}}]*\b{re.escape(top)}\b", text):
            continue
        way_out = _meant(cfg, top, word.get_value_string())
        raise ConfigError(f"{top} is no setting here; {way_out or 'nothing reads it; leave the word out'}.")
