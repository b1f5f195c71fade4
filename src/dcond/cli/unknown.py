"""A key that is no setting: which one was meant, and where all settings are shown."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond.cli.config_groups import groups, primary_config
from dcond.errors import ConfigError, did_you_mean
from dcond.paths import conf_dir


def check_added(cfg: DictConfig) -> None:
    """Raise :class:`ConfigError` for ``+KEY=VALUE`` that adds to the configuration what nothing in it reads."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser

    job = HydraConfig.get()
    primary = conf_dir() / f"{job.job.config_name}.yaml"
    if not primary.is_file():  # a user's own
        return
    base = OmegaConf.load(primary)
    assert isinstance(base, DictConfig)
    parts = {
        str(group).split("@")[-1]
        for entry in base.defaults
        if isinstance(entry, DictConfig)
        for group in entry
    }
    text = OmegaConf.to_yaml(cfg) + OmegaConf.to_yaml(job)
    words: Any = OmegaConf.to_container(job.overrides.task)
    for word in OverridesParser.create().parse_overrides(words):
        key = word.key_or_group
        if (
            not (word.is_add() or word.is_force_add())
            or word.package
            or "/" in key
            or key in job.runtime.choices
        ):
            continue
        top = key.split(".")[0]
        plain = _plain_settings(base, top)
        if plain and key not in (top, *plain):
            raise ConfigError(f"{key} is no setting here; there are: {', '.join(plain)}.")
        if top in parts or top in base or re.search(rf"\$\{{[^}}]*\b{re.escape(top)}\b", text):
            continue
        way_out = suggest_keys(cfg, top, word.get_value_string())
        raise ConfigError(
            f"{top} is no setting here; {way_out or 'nothing reads it; leave the word out'}."
        )


def _plain_settings(base: DictConfig, name: str) -> list[str]:
    """Return the settings below a name in a primary configuration, where they are all: nothing is made of it."""
    part = base.get(name)
    if not isinstance(part, DictConfig) or "_target_" in part or name == "hydra":
        return []
    return [f"{name}.{key}" for key in map(str, part)]


def unknown_key(error: Exception, argv: Sequence[str], command: str) -> str:
    """Say of a ``KEY=VALUE`` that Hydra has no place for what was meant, and how to see what there is.

    Args:
        error: Hydra's own, which would advise a ``+`` even where that is refused.
        argv: the words of the command line; they tell which files the parts are from.
        command: the sub-command; empty where it shows no configuration.

    Returns:
        The message; empty where the error is another one.
    """
    cause = error.__cause__
    parent, lost = getattr(cause, "parent_node", None), str(getattr(cause, "key", None))
    key = re.match(
        r"Could not override '(.+?)'\.\nTo append to your config use \+[^=]*=?(.*)",
        str(error),
        re.DOTALL,
    )
    if key is None or not isinstance(parent, DictConfig):
        return ""
    whole = str(getattr(cause, "full_key", ""))
    full, value = (
        (whole if whole.startswith(f"{key[1]}.") else key[1]),
        key[2],
    )  # dataset={a: 1} says dataset.a
    above = whole.rpartition(".")[0]
    if not above and (meant := suggest_keys(parent, lost, value)):
        return f"{lost} is no setting here; {meant}."
    if above.split(".")[0] == "hydra":
        return f"{full} is no setting; to add it all the same, write +{full}={value}."
    if above and not parent:  # it was a value, or null, and Hydra has made room below it
        unless = (
            f" as long as no {above}=NAME is chosen" if command and above in groups(command) else ""
        )
        return f"{full} is no setting; nothing stands below {above}{unless}."
    chosen = [word for word in argv if word.partition("=")[0] in groups(command)] if command else []
    hint = _nearest_key(parent, above, full, lost)
    if full.removesuffix(f".{lost}").endswith(".networks"):
        hint += f" To add a network: +model@{full}=NAME."
    return f"{full} is no setting {_of(above, chosen, command)}.{hint}{_all_there_are(parent, above, chosen, command)}"


def _of(above: str, chosen: list[str], command: str) -> str:
    """Say which part has no such setting, and which file it is from where the words tell it."""
    if not above:
        return "here"
    said = [word for word in chosen if word.startswith(f"{above}=")]
    if (
        above == "method"
        and command == "condense"
        and not any(word.startswith("experiment=") for word in chosen)
    ):
        said = said or [
            f"method={entry['method']}"
            for entry in primary_config(command).defaults
            if "method" in entry
        ]
    return f"of {said[-1] if said else above}"


def _nearest_key(parent: DictConfig, above: str, full: str, lost: str) -> str:
    """Suggest the key with its lost part replaced by the nearest there is, what stands below it kept."""
    found = re.search("'(.+)'", did_you_mean(lost, map(str, parent)))
    if found is None:
        return ""
    name = f"{above}.{found[1]}" if above else found[1]
    below = full.removeprefix(f"{above}." if above else "").partition(".")[2]
    whole = below and OmegaConf.select(parent, f"{found[1]}.{below}") is not None
    return f" Did you mean {name}.{below}?" if whole else f" Did you mean {name}?"


def _all_there_are(parent: DictConfig, above: str, chosen: list[str], command: str) -> str:
    if not command:
        return (
            f" There are: {', '.join(str(key) for key in parent if not str(key).startswith('_'))}."
        )
    words = " ".join(
        ["", *(word for word in chosen if "," not in word)]
    )  # of a sweep there is no one configuration
    return f" All there are: dcond {command}{words} --cfg job{above and f' --package {above}'}"


def suggest_keys(cfg: DictConfig, key: str, value: str) -> str:
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
