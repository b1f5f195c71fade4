"""Composing a configuration without running Hydra, and runs that Python calls start."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dcond.artefact import make_folder
from dcond.cli.overrides import check_overrides, is_of_hydra
from dcond.cli.path_values import quote_paths
from dcond.cli.run_config import label_modified_protocol, resolve_environment
from dcond.cli.unknown_keys import check_added, hydra_error_message
from dcond.environment import expand_environment
from dcond.errors import ConfigError
from dcond.log import logged_to
from dcond.paths import conf_dir
from dcond.run.context import OVERWRITTEN, oom_as_user_error, refuse_foreign_files, run_folder
from dcond.run.result import RunResult
from dcond.torch_state import one_at_a_time, usual_torch


@contextmanager
def composed(
    config_name: str, overrides: Sequence[str]
) -> Iterator[tuple[DictConfig, dict[str, str]]]:
    """Compose a packaged configuration; yield it with the chosen option of every config group.

    Hydra is initialised for the length of the block only: one that the caller has initialised is
    put back afterwards. A modified protocol is labelled.

    Args:
        config_name: ``condense``, ``evaluate``, ``data`` or ``experts``.
        overrides: as on the command line.

    Raises:
        ConfigError: an override is wrong, in one line.
    """
    expand_environment()
    if config_name != "data":  # which has no groups to choose from
        check_overrides(overrides, config_name)
    with one_at_a_time, _hydra_put_back():  # Hydra is one per process too
        try:
            with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
                cfg = hydra.compose(config_name, list(overrides), return_hydra_config=True)
                choices: Any = OmegaConf.to_container(cfg.hydra.runtime.choices)
                OmegaConf.set_struct(cfg, False)
                hydra_cfg = cfg.pop("hydra")
                OmegaConf.set_struct(cfg, True)
                if config_name != "data":
                    check_added(cfg, hydra_cfg, config_name)
                if config_name in ("condense", "evaluate"):
                    resolve_environment(cfg)
                    label_modified_protocol(cfg, hydra_cfg)
                yield cfg, choices
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(hydra_error_message(error, overrides, config_name)) from error


@contextmanager
def _hydra_put_back() -> Iterator[None]:
    """Set a caller's own Hydra aside for the length of a block."""
    before = deepcopy(Singleton.get_state())
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        Singleton.set_state(before)


def python_overrides(overrides: Sequence[str] | None, **values: object) -> list[str]:
    """Return the overrides of a Python call: those of the values that are not None, then the rest.

    Paths in them need no quotes.

    Raises:
        ConfigError: ``overrides`` is not a list of strings, or one belongs to the command only.
    """
    overrides = () if overrides is None else overrides
    is_list = isinstance(overrides, list | tuple)
    if not is_list or not all(isinstance(override, str) for override in overrides):
        raise ConfigError(
            f'overrides must be a list of strings such as ["method.steps=200"], not {overrides!r}.'
        )
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key == "threads" or is_of_hydra(override):
            instead = (
                "torch.set_num_threads" if key == "threads" else "folder=, or a loop over calls"
            )
            raise ConfigError(
                f"{key}= belongs to the command line and has no effect here; use {instead}."
            )
    named = [f"{key}={value}" for key, value in values.items() if value is not None]
    return [*named, *quote_paths(overrides)]


@contextmanager
def python_run(
    command: str,
    result: RunResult,
    folder: Path | None,
    cfg: DictConfig,
    overrides: Sequence[str],
) -> Iterator[None]:
    """Surround a run that a Python call starts: one at a time, in a locked folder if there is one.

    The folder gets ``.hydra/config.yaml`` and ``overrides.yaml`` and a log, as the command writes
    them.
    """
    with usual_torch():
        if folder is None:
            with oom_as_user_error(result.config or {}):
                yield
            result.status = "done"
            return
        refuse_foreign_files(folder, OVERWRITTEN if command == "condense" else ())
        make_folder(folder)
        with logged_to(folder / f"{command}.log"), run_folder(result, folder):
            write_hydra_files(folder, cfg, overrides)
            yield


def write_hydra_files(folder: Path, cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Write ``.hydra/config.yaml`` and ``overrides.yaml`` of a run folder, as Hydra does."""
    (folder / ".hydra").mkdir(exist_ok=True)
    for name, content in (("config", cfg), ("overrides", OmegaConf.create([*overrides]))):
        OmegaConf.save(content, folder / ".hydra" / f"{name}.yaml")
    (folder / ".hydra" / "hydra.yaml").unlink(missing_ok=True)  # of an earlier run
