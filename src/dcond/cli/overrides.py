"""Command-line arguments of the Hydra commands: flags, paths, config groups and their errors."""

import itertools
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from dcond.errors import ConfigError, UsageError, did_you_mean
from dcond.paths import conf_dir

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
_FLAGS = {*_SHORT.values(), *_SWITCHES, "--experimental-rerun"}
_EXCLUSIVE = ("--run", "--multirun", "--cfg", "--info", "--shell-completion")
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_SHOWING = {"--cfg", "--info", "--hydra-help", "--version", "--shell-completion"}  # run nothing
_FLAG_VALUES = {"--cfg": ("job", "hydra", "all"), "--info": _INFO}
_COMPLETION = re.compile("(install|uninstall|query)=(bash|fish|zsh)")

# Groups of the primary configuration that a command does not offer: one option only, or not used.
_HIDDEN_GROUPS = {
    "condense": {"paths"},
    "evaluate": {"paths", "model"},
    "experts": {"paths", "pool", "evaluation"},
}
# optuna chooses by held-out accuracy, which an evaluation does not have.
# teacher=rded trains the network that condenses, which an evaluation does not know.
_HIDDEN_OPTIONS = {("evaluate", "sweep"): {"optuna"}, ("evaluate", "teacher"): {"rded"}}
_OPTIONAL_GROUPS = {"teacher", "tuned", "experiment", "sweep", "debug"}
_LIST_GROUPS = {"experiment"}  # several files can be combined: experiment=[a,b]
_MAX_LISTED = 30  # names in an error message
_MAX_SUGGESTED = 4

_OVERRIDE = re.compile(r"(?P<prefix>\+{0,2}|~)(?P<key>[^=+~][^=]*)(?P<value>=.*)?", re.DOTALL)
_PATH_KEY = re.compile(
    r"\+{0,2}(synthetic|against|resume|paths\.\w+|hydra\.(run|sweep)\.(dir|subdir)"
    r"|.+\.(path|weights|checkpoint|data_dir|folder|cache))"
)
_MULTIRUN = re.compile(r"\+*hydra\.mode=['\"]?MULTIRUN['\"]?")
_OF_SWEEPS = re.compile(r"sweep|hydra[./](sweep|sweeper|launcher)\b.*")
_OF_HYDRA = re.compile(r"sweep|hydra\b(?!\.searchpath).*")
_QUOTED = re.compile(r"(?P<mark>['\"])(?:\\.|(?!(?P=mark))[^\\])*(?P=mark)", re.DOTALL)
_SWEEP_PART = re.compile(rf"(?:{_QUOTED.pattern}(?=,|$)|[^,])+", re.DOTALL)
_SWEEP_FUNCTION = re.compile(r"(choice|glob|sort|shuffle|tag)\(.*\)", re.DOTALL)


class Arguments(NamedTuple):
    """The arguments of a Hydra command; ``flags`` includes the values of flags."""

    overrides: list[str]
    flags: list[str]


# --- Flags ---------------------------------------------------------------------------------------


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
        flags.append(value)
    exclusive = [flag for flag in _EXCLUSIVE if flag in flags]
    if len(exclusive) > 1:
        raise UsageError(f"{' and '.join(exclusive)} exclude each other; omit one.")
    if "--shell-completion" in flags and not _COMPLETION.fullmatch(" ".join(overrides)):
        raise UsageError(
            "--shell-completion needs install=SHELL or uninstall=SHELL: bash, fish, zsh."
        )
    return Arguments(overrides, flags)


def _unknown_flag(flag: str, command: str) -> str:
    """Return the message for an unknown flag, which may be a setting written as a flag."""
    key = flag.lstrip("-").replace("-", "_")
    if key.partition(".")[0] in _top_level_keys(command):
        return f"{flag} is not a flag; write {key}=VALUE."
    hint = did_you_mean(flag, _FLAGS) or " Settings are written KEY=VALUE."
    return f"{flag} is not a flag.{hint} See dcond {command} --help."


def positional_arguments(argv: Sequence[str], command: str) -> list[str]:
    """Return the arguments that are neither overrides nor flags nor values of flags.

    An existing path that holds ``=`` or begins with ``+`` or ``~`` is positional too, unless it
    reads as an override of a key of the command.

    Raises:
        UsageError: As :func:`split_flags`.
    """

    def is_positional(argument: str) -> bool:
        if not argument or ("=" not in argument and argument[0] not in "+~"):
            return bool(argument)
        override = _OVERRIDE.fullmatch(argument)
        key = override["key"] if override else ""
        top = re.split(r"[.@/]", key)[0]
        return top not in {*_top_level_keys(command), "hydra"} and os.path.exists(argument)

    return [
        argument for argument in split_flags(argv, command).overrides if is_positional(argument)
    ]


def check_mode(arguments: Arguments) -> None:
    """Refuse settings of sweeps without ``-m``, and the folder of a single run with it.

    Raises:
        UsageError: Hydra would ignore one of them.
    """
    if _SHOWING & set(arguments.flags):
        return
    sweep = "--multirun" in arguments.flags or any(map(_MULTIRUN.fullmatch, arguments.overrides))
    for override in arguments.overrides:
        key = _parse(override)[1] if "=" in override else ""  # a path or a deletion
        if sweep and key == "hydra.run.dir":
            raise UsageError(f"{override} does not apply to sweeps; use hydra.sweep.dir=FOLDER.")
        if not sweep and _OF_SWEEPS.fullmatch(key):
            raise UsageError(f"{override} applies to sweeps only; add -m, or leave it out.")


def is_of_hydra(override: str) -> bool:
    """Return whether an override has an effect only where Hydra runs the command."""
    return _OF_HYDRA.fullmatch(_parse(override)[1]) is not None


# --- Paths ---------------------------------------------------------------------------------------


def expand_path_arguments(argv: list[str]) -> list[str]:
    """Rewrite ``synthetic=FILE`` and ``against=FILE`` to their ``.path`` form.

    A positional argument is the path of the set.
    """
    arguments = [re.sub(r"^(synthetic|against)=(?!\{)", r"\1.path=", argument) for argument in argv]
    if any(re.match(r"\+*synthetic(\.path)?=", argument) for argument in arguments):
        return arguments
    for argument in positional_arguments(arguments, "evaluate")[:1]:
        arguments[arguments.index(argument)] = f"synthetic.path={quote_path(argument)}"
    return arguments


def quote_path(path: str) -> str:
    r"""Quote a path for Hydra's override grammar; a path that is quoted already stays as it is.

    Example:
        >>> quote_path("runs/a=b, it's")
        "'runs/a=b, it\\'s'"
    """
    if _QUOTED.fullmatch(path):
        return path
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", path)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def unquote_path(value: str) -> str:
    """Return the path in a quoted value; a value that is not quoted stays as it is."""
    if not _QUOTED.fullmatch(value):
        return value
    mark, inner = value[0], value[1:-1]
    inner = re.sub(rf"(\\+){mark}", lambda found: found[1][: len(found[1]) // 2] + mark, inner)
    return re.sub(r"(\\+)$", lambda found: found[1][: len(found[1]) // 2], inner)


def quote_paths(argv: Sequence[str]) -> list[str]:
    """Return the arguments with the values of path settings quoted, so that a path may be any text.

    Values that are quoted already, ``null``, and for ``synthetic`` and ``against`` a mapping in
    braces stay as they are. Under ``-m`` a comma separates values, each of which is quoted. ``~``
    is expanded.
    """
    sweep = bool({"-m", "--multirun"} & set(argv))
    return [_quote_setting(argument, sweep) for argument in argv]


def _quote_setting(argument: str, sweep: bool) -> str:
    key, _, value = argument.partition("=")
    is_mapping = key.lstrip("+") in ("synthetic", "against") and re.fullmatch(r"\{.*\}", value)
    if not _PATH_KEY.fullmatch(key) or value in ("", "null") or is_mapping:
        return argument
    if not sweep or key.startswith("hydra."):
        return f"{key}={_quote_value(value)}"
    if _SWEEP_FUNCTION.fullmatch(value):
        return argument
    parts = [part[0] for part in _SWEEP_PART.finditer(value)]
    values = (part if part == "null" else _quote_value(part) for part in parts)
    return f"{key}={','.join(values)}"


def _quote_value(value: str) -> str:
    if unquote_path(value).startswith("~"):
        value = os.path.expanduser(unquote_path(value))
    return quote_path(value)


# --- Config groups -------------------------------------------------------------------------------


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


def config_folders(flags: Sequence[str]) -> list[Path]:
    """Return the folders given by ``--config-dir``."""
    return [Path(value) for flag, value in itertools.pairwise(flags) if flag == "--config-dir"]


def _top_level_keys(command: str) -> set[str]:
    return {*groups(command), *map(str, primary_config(command))} - {"defaults", "hydra"}


# --- Checks before Hydra reads the overrides -----------------------------------------------------


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
        prefix, key, value = _parse(override)
        group = key.partition("@")[0]  # pool@learners takes the options of pool
        if prefix == "~" and key in _top_level_keys(command) - _OPTIONAL_GROUPS:
            raise ConfigError(
                f"{override} removes a required setting; leave it out, or write {key}=VALUE."
            )
        if prefix == "~" or not _is_group(group) or not value:
            continue
        if value.startswith("[") and group not in _LIST_GROUPS:
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


def _is_group(group: str) -> bool:
    return group.isidentifier() and (conf_dir() / group).is_dir()


def _check_option(group: str, name: str, command: str) -> None:
    options = group_options(group, command=command)
    if name in options or not re.fullmatch(r"[\w/-]+", name):  # the rest is left to Hydra
        return
    if name == "null" and group in _OPTIONAL_GROUPS:
        hint = f" For none, omit it or write ~{group}."
    else:
        family = sorted((x for x in options if f"/{name}" in f"/{x}"), key=lambda x: (len(x), x))
        is_family = family and any("/" in option for option in options)
        hint = (
            _suggest(sorted(family[:_MAX_SUGGESTED])) if is_family else did_you_mean(name, options)
        )
    if len(options) > _MAX_LISTED:
        raise ConfigError(f"{group}={name!r} is unknown; see dcond list {group}s.{hint}")
    raise ConfigError(f"{group}={name!r} is unknown; allowed: {', '.join(options)}.{hint}")


def check_override_syntax(overrides: Sequence[str]) -> None:
    """Raise :class:`ConfigError` for an override without ``=`` or without a key, such as ``=3``."""
    for override in overrides:
        parts = _OVERRIDE.fullmatch(override)
        if parts is None or (parts["value"] is None and parts["prefix"] != "~"):
            raise ConfigError(f"{override!r} is not an override; write KEY=VALUE without spaces.")


def check_added(cfg: DictConfig, hydra_cfg: DictConfig, command: str) -> None:
    """Raise :class:`ConfigError` where ``+KEY=VALUE`` adds a key that nothing reads.

    A key below a part, such as ``method``, is checked when the part is built.

    Args:
        cfg: the composed configuration.
        hydra_cfg: Hydra's part of it.
        command: the sub-command or primary configuration.
    """
    if not (conf_dir() / f"{command}.yaml").is_file():  # a configuration of the user
        return
    base = primary_config(command)
    known = {str(name).rpartition("@")[2] for name in hydra_cfg.runtime.choices} | set(base)
    text = OmegaConf.to_yaml(cfg) + OmegaConf.to_yaml(hydra_cfg)
    for override in OverridesParser.create().parse_overrides(list(hydra_cfg.overrides.task)):
        key = override.key_or_group
        is_added = override.is_add() or override.is_force_add()
        if not is_added or override.package or "/" in key:
            continue
        top, _, below = key.partition(".")
        section = base.get(top)
        is_plain = isinstance(section, DictConfig) and "_target_" not in section
        if is_plain and below and below not in section:
            allowed = ", ".join(f"{top}.{name}" for name in section)
            raise ConfigError(f"{key} is not a setting; allowed: {allowed}.")
        if top not in known and not re.search(rf"\$\{{[^}}]*\b{re.escape(top)}\b", text):
            hint = _suggest(_places(cfg, top)) or " Nothing reads it."
            raise ConfigError(f"{top} is not a setting.{hint}")


def _parse(override: str) -> tuple[str, str, str]:
    """Split an override into prefix, key and value; all empty where it is not one."""
    parts = _OVERRIDE.fullmatch(override)
    return (parts["prefix"], parts["key"], (parts["value"] or "")[1:]) if parts else ("", "", "")


# --- Errors of Hydra as one line -----------------------------------------------------------------


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
        takes_list = not _is_group(group) or group in _LIST_GROUPS
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
        for _, place, value in [_parse(override)]
        if (place in groups(command) or "@" in place) and re.fullmatch(r"[\w/,-]+", value)
    ]
    own = [each for each in selected if _parse(each)[1] == top and key != top]
    owner = f" of {own[-1].lstrip('+')}" if own else ""
    if any("," in each for each in own):
        return f"{key} is not a setting of each of {own[-1].lstrip('+')}.{hint}"
    if command not in ("condense", "evaluate"):  # no --cfg shows the configuration
        return f"{key} is not a setting{owner}.{hint}"
    shown = [each for each in selected if "," not in each]
    shown += [each for each in flags if each != "--multirun"] + ["--cfg", "job"]
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
        return _suggest([f"{above}.{near[1]}".lstrip(".") + key.removeprefix(missing)])
    if above.endswith(".networks"):
        return f" To add a network: +model@{missing}=NAME."
    return "" if above or node is None else _suggest(_places(node, part))


def _names(node: Any, above: str = "") -> Iterator[str]:
    """Yield the dotted names of all keys of nested mappings."""
    for name, part in node.items() if isinstance(node, dict) else ():
        yield f"{above}{name}"
        yield from _names(part, f"{above}{name}.")


def _places(cfg: DictConfig, key: str) -> list[str]:
    """Return the full names of the settings with a given last part, those of the method first."""
    names = [name for name in _names(OmegaConf.to_container(cfg)) if name.endswith(f".{key}")]
    names = [name for name in names if not name.startswith("hydra.") and not key.startswith("_")]
    return sorted(names, key=lambda x: (not x.startswith("method."), x.count(".")))[:_MAX_SUGGESTED]


def _suggest(names: Sequence[str]) -> str:
    """Return ``" Did you mean A, B or C?"``, or an empty string where there are no names."""
    listed = " or ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])
    return f" Did you mean {listed}?" if names else ""
