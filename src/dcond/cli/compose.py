"""Composing a configuration without running Hydra: for Python callers and for ``dcond data``."""

import threading
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

from dcond.cli.overrides import check_overrides, hydra_error_message
from dcond.errors import ConfigError
from dcond.paths import conf_dir

# Held for a whole run from Python: Hydra and PyTorch's global random generator are one per process.
one_at_a_time = threading.RLock()


@contextmanager
def composed(
    config_name: str, overrides: Sequence[str]
) -> Iterator[tuple[DictConfig, dict[str, str]]]:
    """Compose a packaged configuration; yield it with the chosen option of every config group.

    Hydra is initialised for the length of the block only: one that the caller has initialised is
    put back afterwards.

    Args:
        config_name: ``condense``, ``evaluate`` or ``data``.
        overrides: as on the command line.

    Raises:
        ConfigError: an override is wrong, in one line.
    """
    if config_name != "data":  # which has no groups to choose from
        check_overrides(overrides, config_name)
    with one_at_a_time, _hydra_put_back():
        try:
            with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
                cfg = hydra.compose(config_name, list(overrides), return_hydra_config=True)
                choices: Any = OmegaConf.to_container(cfg.hydra.runtime.choices)
                OmegaConf.set_struct(cfg, False)
                cfg.pop("hydra")
                OmegaConf.set_struct(cfg, True)
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


def write_hydra_files(folder: Path, cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Write ``.hydra/config.yaml`` and ``overrides.yaml``, as the command has them."""
    (folder / ".hydra").mkdir(exist_ok=True)
    for name, content in (("config", cfg), ("overrides", OmegaConf.create(list(overrides)))):
        OmegaConf.save(content, folder / ".hydra" / f"{name}.yaml")
