"""What a run records of its configuration: for its result, its checkpoints and its set."""

import itertools
import json
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from dcond.errors import ConfigError, yaml_repr
from dcond.paths import conf_dir
from dcond.run.result import (
    NO_EFFECT_IN_PROTOCOL,
    OF_ENVIRONMENT,
    PLACE,
    flat_settings,
    sha256,
)

# The settings of `dcond condense` and `dcond evaluate` that change no number of their results:
# where files are, what is computed beside the result, how and when it is reported. Those that both
# commands have are in conf/base.yaml, above its seed.
NO_EFFECT = frozenset(
    {
        *("paths", "name", "resume", "tensorboard", "loop", "evaluate", "against"),
        *itertools.takewhile(lambda key: key != "seed", OmegaConf.load(conf_dir() / "base.yaml")),
    }
)
CONDENSING_ONLY = frozenset({"model", "learners"})  # in an evaluation, what a data set's file sets
# Settings of a protocol that are reported beside its name, or change no accuracy.
_NOT_IN_PROTOCOL_NAME = ("name", "repeats", "teacher", *NO_EFFECT_IN_PROTOCOL)


def result_affecting_config(cfg: DictConfig, *, aside: frozenset[str] = NO_EFFECT) -> DictConfig:
    """Return a copy of the configuration without the settings that change no number."""
    names = [str(key) for key in cfg if key not in aside]
    affecting = OmegaConf.masked_copy(cfg, names)
    with open_dict(affecting):
        if isinstance(affecting.dataset, DictConfig):
            affecting.dataset.pop("keep", None)  # where the images are held
            if affecting.dataset.get("classes", ...) is None:
                affecting.dataset.pop("classes")  # all, as in results of earlier versions
    return affecting


def resolve_environment(cfg: DictConfig) -> None:
    """Replace settings that the environment or the clock decides by their values, but for places.

    Another environment is another configuration: other seeds must not pass for the same one.
    """
    own = {key: part for key, part in to_jsonable(cfg).items() if key not in NO_EFFECT}
    for key, value in flat_settings(own).items():
        if OF_ENVIRONMENT.search(str(value)) and not PLACE.search(key):
            found = OmegaConf.select(cfg, key)
            if isinstance(found, ListConfig):
                found = OmegaConf.to_container(found, resolve=True)
            OmegaConf.update(cfg, key, found)


def config_hash(cfg: DictConfig) -> str:
    """Return the SHA-256 that identifies a configuration."""
    return sha256(OmegaConf.to_yaml(cfg, sort_keys=True))


def score_names(cfg: DictConfig) -> list[str]:
    """Return the names below ``scores``.

    Raises:
        ConfigError: ``scores`` was replaced by a value.
    """
    if not isinstance(cfg.scores, DictConfig):
        raise ConfigError(
            f"scores={cfg.scores} replaces all score settings; write scores.NAME=true."
        )
    return [str(name) for name in cfg.scores]


def requested_extras(cfg: DictConfig) -> dict[str, Any]:
    """Return what is computed beside the set's own accuracies."""
    names = ["baselines", *(f"scores.{name}" for name in score_names(cfg))]
    return {name: OmegaConf.select(cfg, name) is True for name in names}


def selected_options(affecting: DictConfig, choices: Mapping[str, Any]) -> dict[str, str]:
    """Return the option chosen for each part of a configuration that has one."""
    # pool@learners is the group of the part `learners`.
    names = {place.rpartition("@")[2]: name for place, name in choices.items()} | dict(choices)
    return {part: names[part] for part in map(str, affecting) if names.get(part)}


def dataset_name(cfg: DictConfig, choice: str) -> str:
    """Return the data set's own name; the chosen option where it has none."""
    name = OmegaConf.select(cfg, "dataset.name")
    return choice if name is None else str(name)


def to_jsonable(cfg: DictConfig) -> dict[str, Any]:
    """Return a configuration for JSON: interpolations unresolved, inf and nan as text."""
    text = json.dumps(OmegaConf.to_container(cfg), default=str)
    names = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
    content: dict[str, Any] = json.loads(text, parse_constant=names.__getitem__)
    return content


def parse_provenance(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return seed, hash, choices and settings of the run that made a set.

    None for what the metadata does not say in a usable form: anyone may have written the file.
    """
    seed, made_with = _parse(metadata.get("seed")), _parse(metadata.get("made_with"))
    parts = made_with if isinstance(made_with, dict) else {}
    return {
        "seed": seed if type(seed) is int else None,
        "config_sha256": metadata.get("config_sha256"),
        **{
            kind: part if isinstance(part := parts.get(kind), dict) else None
            for kind in ("choices", "config")
        },
    }


def parse_classes(metadata: Mapping[str, str]) -> list[str]:
    """Return the names of ``dataset.classes`` that a set was made of; empty for all classes."""
    names = _parse(metadata.get("dataset_classes"))
    usable = isinstance(names, list) and all(isinstance(each, str) for each in names)
    return names if usable and not any("$" in each for each in names) else []  # interpolations


def _parse(text: str | None) -> Any:
    """Parse JSON; None if it is not, text for a number that is not finite."""

    def number(text: str) -> float | str:
        value = float(text)
        return value if math.isfinite(value) else text

    try:
        return json.loads(text or "null", parse_constant=str, parse_float=number)
    except (ValueError, RecursionError):
        return None


def dump_config(cfg: DictConfig, choices: Mapping[str, str]) -> str:
    """Return the configuration and its choices as YAML, for checkpoints."""
    return OmegaConf.to_yaml(OmegaConf.create({"config": cfg, "choices": dict(choices)}))


def label_modified_protocol(cfg: DictConfig, hydra_cfg: DictConfig) -> None:
    """Append the changed settings to a protocol's name: ``quick with epochs=10, lr=0.1``.

    A name that was given explicitly stays. Hydra must be initialised.

    Args:
        cfg: the composed configuration, changed in place.
        hydra_cfg: Hydra's part of it.
    """
    choice = hydra_cfg.runtime.choices.get("evaluation")
    ours = OmegaConf.select(cfg, "evaluation")
    if choice is None or not isinstance(ours, DictConfig):
        return
    if not GlobalHydra.instance().is_initialized():  # in a process of a launcher
        return
    path = str(GlobalHydra.instance().config_loader().get_search_path())
    overrides = [each for each in hydra_cfg.overrides.hydra if "hydra.searchpath" in each]
    packaged = _compose_protocol(str(hydra_cfg.job.config_name), choice, tuple(overrides), path)
    if packaged is None or packaged.get("name") != (name := ours.get("name")):
        return
    before, now = (flat_settings(to_jsonable(each)) for each in (packaged, ours))
    changed = [
        f"{key}={value if isinstance(value, str) else yaml_repr(value)}"
        for key, value in now.items()
        if key.split(".")[0] not in _NOT_IN_PROTOCOL_NAME and value != before.get(key, ...)
    ]
    changed += [f"~{key}" for key in map(str, packaged) if key not in ours]
    if changed:
        ours.name = f"{name!s} with {', '.join(changed)}"


@cache  # one composition for the many jobs of a sweep
def _compose_protocol(
    config_name: str, choice: str, overrides: tuple[str, ...], path: str
) -> DictConfig | None:
    """Return the protocol as its file states it; ``path`` is the search path, for the cache."""
    composed = hydra.compose(config_name, [f"evaluation={choice}", *overrides])
    evaluation = OmegaConf.select(composed, "evaluation")
    return evaluation if isinstance(evaluation, DictConfig) else None
