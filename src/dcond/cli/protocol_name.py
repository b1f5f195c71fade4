"""The name of a protocol that was changed: results, tables and reports never call it what it is no more."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond.errors import yaml_repr
from dcond.run.result import flat

# Told beside the name, or without effect on an accuracy.
_ASIDE = ("name", "repeats", "teacher", "test_batch", "best_every", "stack")


def label_modified_protocol(cfg: DictConfig, choices: Mapping[str, Any]) -> None:
    """Add to ``evaluation.name`` what differs from the protocol's file: ``quick with epochs=10, lr=0.1``.

    A name that was given on the command line, or by an experiment, stays. Needs Hydra as its job
    has it.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    choice, ours = choices.get("evaluation"), OmegaConf.select(cfg, "evaluation")
    if (
        choice is None
        or not isinstance(ours, DictConfig)
        or not GlobalHydra.instance().is_initialized()
    ):
        return
    job = HydraConfig.get()
    words = (
        f"evaluation={choice}",
        *(word for word in job.overrides.hydra if "hydra.searchpath" in word),
    )
    packaged = _composed(
        str(job.job.config_name),
        words,
        str(GlobalHydra.instance().config_loader().get_search_path()),
    )
    if packaged is None or packaged.get("name") != (name := ours.get("name")):
        return
    containers: tuple[Any, ...] = OmegaConf.to_container(packaged), OmegaConf.to_container(ours)
    before, now = map(flat, containers)
    changed = [
        key for key in now if key.split(".")[0] not in _ASIDE and now[key] != before.get(key, ...)
    ]
    told = [f"{key}={_word(now[key])}" for key in changed] + [
        f"~{key}" for key in map(str, packaged) if key not in ours
    ]
    if told:
        ours.name = f"{name!s} with {', '.join(told)}"


@cache  # of a sweep's many jobs; hence the search path among its arguments
def _composed(command: str, words: tuple[str, ...], search_path: str) -> DictConfig | None:
    """Return the evaluation as its file states it, which may lie in a folder of the user's."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    loader = GlobalHydra.instance().config_loader()
    found = loader.load_configuration(
        command, [*words], RunMode.RUN, from_shell=False, validate_sweep_overrides=False
    )
    evaluation = OmegaConf.select(found, "evaluation")
    return evaluation if isinstance(evaluation, DictConfig) else None


def _word(value: str | float | None) -> str:
    return value if isinstance(value, str) else yaml_repr(value)
