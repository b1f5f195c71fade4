"""From a composed configuration to built parts: checked settings, then Hydra's ``instantiate``."""

import inspect
import logging
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dcond.cli.compose import composed
from dcond.cli.groups import group_options
from dcond.cli.overrides import check_override_syntax
from dcond.cli.path_values import quote_paths
from dcond.cli.run_config import dump_config, score_names
from dcond.data import Dataset
from dcond.device import resolve_device
from dcond.errors import (
    ConfigError,
    DcondError,
    did_you_mean,
    first_line,
    one_of,
    require,
    yaml_repr,
)
from dcond.models import Pool, Recipe
from dcond.run.condensation import Condensation
from dcond.run.evaluation import EvaluationPlan
from dcond.run.result import ACCURACY, TEST, RunResult
from dcond.run.signals import Stop
from dcond.settings import NonNegativeInt, PositiveFloat, PositiveInt, check_value

log = logging.getLogger(__name__)

_DATASET_PARTS = ("dataset", "paths", "hydra")  # what `dcond data` can override
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def build_condensation(
    cfg: DictConfig,
    choices: Mapping[str, str],
    result: RunResult,
    *,
    folder: Path | None,
    stop: Stop | None = None,
    overrides: Sequence[str] = (),
    show_progress: bool = True,
) -> Condensation:
    """Build every part of a condensation; raise for a wrong setting before any data is read.

    Args:
        cfg: the composed configuration.
        choices: the chosen option of every config group.
        result: the run's, with its names and settings.
        folder: of the run's files; None writes none.
        stop: caught signals.
        overrides: the overrides as they were typed.
        show_progress: show a progress bar or log lines.

    Raises:
        ConfigError: a setting is unknown, missing, or out of range.
    """
    config = dump_config(cfg, choices)  # now, since instantiate() resolves interpolations in cfg
    method = build(cfg.method, f"method={choices['method']}")
    unused = {} if "engine" in cfg.method else {"engine": "has no engine"}
    if "augment" not in cfg.method:
        unused["augment"] = "has no augmentation"
    if getattr(method, "steps", 1) == 0:
        unused["init"] = "chooses its own images"
    readers = OmegaConf.to_yaml([cfg.method, cfg.init, cfg.get("teacher")])
    for part in ("model", "learners"):
        if f"${{{part}" not in readers:
            unused[part] = f"and init={choices['init']} do not read it"
    for override in overrides:
        part = re.split("[.=]", override.lstrip("+"))[0].rpartition("@")[2]
        if part in unused and override not in ("engine=auto", "init=real"):
            log.warning("%s is not used: method=%s %s", override, choices["method"], unused[part])
    evaluate, loop = get(cfg, "evaluate", bool), build(cfg.loop, "loop")
    plan = build_plan(cfg, choices)
    condensation = Condensation(
        ipc=get(cfg, "ipc", PositiveInt),
        seed=get(cfg, "seed", NonNegativeInt),
        max_steps=get(cfg, "max_steps", NonNegativeInt | None),
        max_seconds=get(cfg, "max_seconds", PositiveFloat | None),
        tensorboard=get(cfg, "tensorboard", bool),
        device=resolve_device(str(cfg.device)),
        method=method,
        init=build(cfg.init, f"init={choices['init']}"),
        data=build(cfg.dataset, f"dataset={choices['dataset']}"),
        folder=folder,
        plan=plan,
        evaluate=evaluate,
        loop=loop,
        stop=stop or Stop(),
        config=config,
        overrides=overrides,
        result=result,
        show_progress=show_progress,
    )
    prefetch_weights(condensation.method, condensation.init)
    if condensation.evaluates:
        prefetch_weights(plan.pool, plan.protocol)
    return condensation


def build_plan(
    cfg: DictConfig,
    choices: Mapping[str, str],
    *,
    sanity_checks: bool = False,
) -> EvaluationPlan:
    """Build the networks and the protocol of an evaluation, and what else it trains.

    Raises:
        ConfigError: a setting is unknown, missing, or out of range.
    """
    extra = {name for name in score_names(cfg) if get(cfg, f"scores.{name}", bool)}
    if not OmegaConf.select(cfg, "evaluate", default=True):
        extra = set()
    tested_on = str(OmegaConf.select(cfg, "test_on", default=TEST))
    one_of("test_on", tested_on, ACCURACY)
    protocol = build(cfg.evaluation, option := f"evaluation={choices.get('evaluation')}")
    if OmegaConf.select(cfg, "teacher") is not None and protocol.teacher is None:
        raise ConfigError(
            f"teacher={choices.get('teacher')} has no effect on {option}, whose file does not say "
            "teacher: ${teacher}; add this line to it, or omit the teacher."
        )
    return EvaluationPlan(
        pool=build(cfg.pool, f"pool={choices.get('pool')}"),
        protocol=protocol,
        seed=get(cfg, "seed", NonNegativeInt),
        cache=cache_folder(cfg),
        baselines=get(cfg, "baselines", bool),
        extra=frozenset(extra),
        sanity_checks=sanity_checks,
        tested_on=tested_on,
    )


def build(node: Any, option: str) -> Any:
    """Instantiate a part from its configuration.

    Args:
        node: the part's configuration, with a ``_target_``.
        option: how the command line chooses it: ``method=dm``, or ``loop``.

    Raises:
        ConfigError: a setting is unknown, missing, or of a wrong type or range.
        DcondError: the part itself refused its settings.
    """
    group = option.partition("=")[0]
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{group}={yaml_repr(node)} is not an option of {group}; choose one.")
    for missing in sorted(OmegaConf.missing_keys(node)):
        raise ConfigError(f"{option} needs {missing}; add {missing}=... to the command.")
    try:
        validate_targets(OmegaConf.to_container(node, resolve=True), group, node)
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, DcondError):
                raise cause from None
            if isinstance(cause, ModuleNotFoundError):
                package = str(cause.name).partition(".")[0]
                raise ConfigError(
                    f"{option} needs the package {package!r}, which is not installed."
                ) from error
            cause = cause.__cause__
        reason = first_line(error.__cause__ or error)
        raise ConfigError(f"{option} cannot be built from its settings: {reason}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{option}: {first_line(error)}") from error


def make_dataset(name: str, settings: list[str]) -> Dataset:
    """Compose ``conf/dataset/<name>.yaml`` with Hydra and build the data set it describes.

    Args:
        name: of the file.
        settings: overrides, ``KEY=VALUE``.

    Raises:
        ConfigError: no such data set, or a setting that is unknown or out of range.
    """
    check_override_syntax(settings)
    if not any(setting.startswith("hydra.searchpath=") for setting in settings):
        one_of("data set", name, group_options("dataset"))  # a search path may add others
    with composed("data", [f"dataset={name}", *quote_paths(settings)]) as (cfg, _):
        node = cfg.dataset
    for setting in settings:
        if setting.lstrip("+~").partition("=")[0].split(".")[0] not in _DATASET_PARTS:
            raise ConfigError(
                f"{setting} is not a setting of a data set; allowed: dataset.KEY=VALUE, "
                "paths.data=FOLDER."
            )
    dataset: Dataset = build(node, f"dataset={name}")
    return dataset


def validate_targets(node: Any, where: str, unresolved: Any = None) -> None:
    """Check the settings of every ``_target_`` in a node against its signature, inner ones first.

    Args:
        node: plain containers, interpolations resolved.
        where: the node's key on the command line, such as ``method``.
        unresolved: the node before interpolation: a part ``${model}`` has the key ``model``.

    Raises:
        ConfigError: a setting is unknown, missing, or of a wrong type or range.
    """
    if isinstance(node, list):
        for index, part in enumerate(node):
            validate_targets(part, f"{where}.{index}")
    if not isinstance(node, Mapping):
        return
    for key, part in node.items():
        written, place = None, f"{where}.{key}"
        if isinstance(unresolved, DictConfig):
            if OmegaConf.is_interpolation(unresolved, key):
                text = OmegaConf.to_yaml(OmegaConf.masked_copy(unresolved, key)).strip()
                place = next(iter(re.findall(r"^\w+: \$\{([\w.]+)\}$", text)), place)
            else:
                written = unresolved[key]
        validate_targets(part, place, written)
    if "_target_" in node:
        settings = {key: value for key, value in node.items() if not key.startswith("_")}
        complete = "_args_" not in node and not node.get("_partial_")
        _validate_target(str(node["_target_"]), settings, where, complete=complete)


def _validate_target(target: str, settings: dict[str, Any], where: str, *, complete: bool) -> None:
    try:
        part = pkgutil.resolve_name(target)
    except Exception as error:  # importing a user's module may fail in any way
        raise ConfigError(
            f"{where}: {target} cannot be imported ({first_line(error)}). Put its file into the "
            "folder of --config-dir, install its package, or add its folder to PYTHONPATH."
        ) from error
    try:
        parameters = dict(inspect.signature(part).parameters)
    except (TypeError, ValueError):  # no signature: instantiating it gives the error
        return
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    parameters = {name: each for name, each in parameters.items() if each.kind in _NAMED}
    for key, value in settings.items():
        known = key in parameters or takes_any
        hint = "" if known else did_you_mean(key, parameters)
        require(known, f"{where}.{key} is unknown; {target} takes {', '.join(parameters)}.{hint}")
        if key in parameters:
            check_value(f"{where}.{key}", value, parameters[key].annotation)
    for name, parameter in parameters.items():
        needed = complete and parameter.default is parameter.empty
        require(name in settings or not needed, f"{where}.{name} is missing; {target} needs it.")


def prefetch_weights(*parts: Any) -> None:
    """Download or find the weights of every network in some parts, before anything is computed."""
    for part in parts:
        if isinstance(part, Pool | Recipe):
            part.fetch()
        elif is_dataclass(part):
            prefetch_weights(*(getattr(part, field.name) for field in fields(part)))


def get(cfg: DictConfig, key: str, annotation: Any) -> Any:
    """Return a setting that belongs to no part, checked against a type of :mod:`dcond.settings`.

    Raises:
        ConfigError: the value is not of this type, or out of range.
    """
    value = OmegaConf.select(cfg, key)
    check_value(key, value, annotation)
    return value


def cache_folder(cfg: DictConfig) -> Path:
    """Return the folder of results that later runs can reuse.

    Raises:
        ConfigError: ``paths.outputs`` is not the name of a folder.
    """
    outputs = OmegaConf.select(cfg, "paths.outputs") if isinstance(cfg.paths, DictConfig) else None
    if not isinstance(outputs, str):
        raise ConfigError(f"paths.outputs={yaml_repr(outputs)} must be the name of a folder.")
    return Path(outputs) / "cache"
