"""Settings that a configuration does not have, and Hydra's errors as one line."""

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond.cli.flags import split_flags
from dcond.cli.groups import LIST_GROUPS, groups, is_group, primary_config
from dcond.cli.overrides import parse
from dcond.errors import MAX_SUGGESTED, ConfigError, did_you_mean, suggest
from dcond.paths import conf_dir


def hydra_error_message(error: Exception, argv: Sequence[str] = (), command: str = "") -> str:
    """Return the message of an error of Hydra or OmegaConf as one line.

    Args:
        error: The error.
        argv: The arguments of the command.
        command: The sub-command or primary configuration, if known.
    """
    message = " ".join(str(error).partition("Config search path")[0].split()).rstrip(".")
    if isinstance(override := getattr(error, "override", None), str):
        return (
            f"{override!r} is not a valid override; write KEY=VALUE, in quotes where the value "
            "has commas, brackets or spaces: 'KEY=[A, B]'."
        )
    if several := re.match(r"Ambiguous value for argument '(.+?)' 1\. ", message):
        group = re.split("[@=]", several[1].lstrip("+"))[0]
        takes_list = not is_group(group) or group in LIST_GROUPS
        hint = ", or write KEY=[A,B] for a list" if takes_list else ""
        return f"{several[1]} has several values; add -m for a sweep{hint}."
    if unknown := re.match(r"Could not override '(.+?)'", message):
        return _unknown_key_message(unknown[1], error.__cause__, argv, command)
    hint = ""
    if plugin := re.match(r".*Could not find 'hydra/(?:launcher|sweeper)/([a-z]+)", message):
        extra = {"submitit": "slurm"}.get(plugin[1], plugin[1])
        hint = f" If its package is not installed: pip install '.[{extra}]' in the checkout."
    return f"{message}.{hint}"


def _unknown_key_message(
    key: str, cause: BaseException | None, argv: Sequence[str], command: str
) -> str:
    """Return the message for a key that the configuration does not have, with a suggestion."""
    missing = str(getattr(cause, "full_key", None) or key)
    if missing.startswith(f"{key}."):  # dataset={a: 1} lacks dataset.a
        key = missing
    top = key.partition(".")[0]
    if top == "hydra" or not (conf_dir() / f"{command}.yaml").is_file():  # or one of the user
        return f"{key} is not a setting."
    hint = _explain_missing(key, missing, getattr(cause, "parent_node", None))
    overrides, flags = split_flags(argv, command)
    selected = [
        override
        for override in overrides
        for _, place, value in [parse(override)]
        if (place in groups(command) or "@" in place) and re.fullmatch(r"[\w/,-]+", value)
    ]
    own = [each for each in selected if parse(each)[1] == top and key != top]
    owner = f" of {own[-1].lstrip('+')}" if own else ""
    if any("," in each for each in own):
        return f"{key} is not a setting of each of {own[-1].lstrip('+')}.{hint}"
    if command not in ("condense", "evaluate"):  # no --cfg shows the configuration
        return f"{key} is not a setting{owner}.{hint}"
    shown = [each for each in selected if "," not in each]
    pairs = [pair for pair in itertools.pairwise(flags) if pair[0].startswith("--config-")]
    shown += [*itertools.chain(*pairs), "--cfg", "job"]
    shown += ["--package", top] if key != top and top in groups(command) else []
    line = shlex.join(["dcond", command, *shown])
    return f"{key} is not a setting{owner}.{hint} All settings: {line}"


def _explain_missing(key: str, missing: str, node: DictConfig | None) -> str:
    """Return a hint for a key.

    Args:
        key: as given.
        missing: the first part of it that the configuration does not have.
        node: the mapping that does not have it.
    """
    above, _, part = missing.rpartition(".")
    siblings = [str(name) for name in node or ()]
    if above and not siblings:
        return f" {above} has no sub-keys."
    if near := re.search("'(.+)'", did_you_mean(part, siblings)):
        return suggest([f"{above}.{near[1]}".lstrip(".") + key.removeprefix(missing)])
    if above.endswith(".networks"):
        return f" To add a network: +model@{missing}=NAME."
    return "" if above or node is None else suggest(_places(node, part))


def _places(cfg: DictConfig, key: str) -> list[str]:
    """Return the full names of the settings with a given last part, those of the method first."""
    names = [name for name in _names(OmegaConf.to_container(cfg)) if name.endswith(f".{key}")]
    names = [name for name in names if not name.startswith("hydra.") and not key.startswith("_")]
    return sorted(names, key=lambda x: (not x.startswith("method."), x.count(".")))[:MAX_SUGGESTED]


def _names(node: Any, above: str = "") -> Iterator[str]:
    """Yield the dotted names of all keys of nested mappings."""
    for name, part in node.items() if isinstance(node, dict) else ():
        yield f"{above}{name}"
        yield from _names(part, f"{above}{name}.")


def check_added(cfg: DictConfig, hydra_cfg: DictConfig, command: str) -> None:
    """Raise :class:`ConfigError` where ``+KEY=VALUE`` or a file adds a key that nothing reads.

    A key below a part, such as ``method``, is checked when the part is built. A chosen file of the
    user that has the name of a packaged one, which Hydra reads instead, is refused too.

    Args:
        cfg: the composed configuration.
        hydra_cfg: Hydra's part of it.
        command: the sub-command or primary configuration.
    """
    sources = [source.path for source in hydra_cfg.runtime.config_sources]
    if not (conf_dir() / f"{command}.yaml").is_file() or str(conf_dir()) not in sources:
        return  # a configuration of the user
    base: Any = OmegaConf.to_container(primary_config(command))  # without resolving
    of_groups = {str(name).rpartition("@")[2] for name in hydra_cfg.runtime.choices}
    known = of_groups | set(base)
    text = OmegaConf.to_yaml(cfg) + OmegaConf.to_yaml(hydra_cfg)
    typed = {parse(each)[1].partition(".")[0] for each in hydra_cfg.overrides.task}
    content: Any = OmegaConf.to_container(cfg)
    for key, own in ((str(name), part) for name, part in content.items()):
        if key not in known and not re.search(rf"\$\{{[^}}]*\b{re.escape(key)}\b", text):
            hints = suggest(_places(cfg, key)), did_you_mean(key, sorted(known))
            where = "" if key in typed else ", which a configuration file has,"
            hint = next(filter(None, hints if key in typed else hints[::-1]), "")
            raise ConfigError(f"{key}{where} is not a setting.{hint or ' Nothing reads it.'}")
        section = base.get(key)
        if key in of_groups or not isinstance(section, dict) or "_target_" in section:
            continue
        for below in map(str, own) if isinstance(own, dict) else ():
            if below not in section:
                allowed = ", ".join(f"{key}.{name}" for name in map(str, section))
                raise ConfigError(f"{key}.{below} is not a setting; allowed: {allowed}.")
    _refuse_shadowed(hydra_cfg, sources[sources.index(str(conf_dir())) + 1 :])


def _refuse_shadowed(hydra_cfg: DictConfig, later: Sequence[str]) -> None:
    """Refuse a chosen file in folders that Hydra searches after the packaged one."""
    choices: Any = OmegaConf.to_container(hydra_cfg.runtime.choices)  # without resolving
    for place, option in choices.items():
        name = Path(str(place).partition("@")[0]) / f"{option}.yaml"
        packaged = conf_dir() / name
        for own in (Path(folder) / name for folder in later):
            if packaged.is_file() and own.is_file() and own.read_bytes() != packaged.read_bytes():
                raise ConfigError(
                    f"{own} is not read, since dcond has a {name.parent} of this name; rename it "
                    f"and choose it by its new name."
                )
