"""What the Hydra applications share: composing, building parts, user errors, the result file."""

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond.errors import ConfigError, DcondError, nearest
from dcond.paths import conf_dir

log = logging.getLogger(__name__)


def hydra_main(task: Callable[[DictConfig], None], config_name: str, argv: list[str]) -> None:
    """Run a task under Hydra with the words after the sub-command."""
    import hydra

    OmegaConf.register_new_resolver("dcond.run_dir", lambda resume, new: resume or new, replace=True)
    OmegaConf.register_new_resolver("dcond.hydra_subdir", lambda resume: None if resume else ".hydra", replace=True)
    check_choices(argv)
    sys.argv = [sys.argv[0], *argv]
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(_translated(task))()


def _translated(task: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Turn a user's fault into the one line Hydra prints without a traceback; the sweep goes on."""

    @functools.wraps(task)
    def run(cfg: DictConfig) -> None:
        from hydra.errors import CompactHydraException

        try:
            task(cfg)
        except DcondError as error:
            raise CompactHydraException(f"dcond: {error}") from error

    return run


def check_choices(argv: list[str]) -> None:
    """Raise :class:`ConfigError` for ``group=name`` where the group has no such file, and suggest the nearest.

    Hydra refuses such a word too, but without a suggestion. A sweep's lists are checked word by word; anything cleverer
    is left to Hydra, and so is all of it where own folders of configs are given.
    """
    if any(word.startswith(("--config-dir", "-cd", "--config-path", "-cp", "hydra.searchpath")) for word in argv):
        return
    for word in argv:
        group, _, value = word.partition("=")
        folder = conf_dir() / group
        if word.startswith("-") or not value or not group.isidentifier() or not folder.is_dir():
            continue
        names = choices(folder)
        for name in value.split(","):
            if name.replace("_", "").replace("-", "").replace("/", "").isalnum() and name not in {*names, "null"}:
                raise ConfigError(f"{group}={name!r} is unknown; allowed: {', '.join(names)}.{nearest(name, names)}")


def choices(folder: Path) -> list[str]:
    """Return the names that a config group offers, sub-folders included."""
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def build(node: Any, what: str) -> Any:
    """Instantiate a part from its configuration.

    Raises:
        ConfigError: the node names an unknown setting, or lacks one.
        DcondError: whatever the part itself refuses, as it said it.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf.errors import OmegaConfBaseException

    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, DcondError):
                raise cause from None
            cause = cause.__cause__
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ConfigError(f"{what} cannot be made from its settings: {reason}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{what}: {str(error).splitlines()[0]}") from error


def whole_number(cfg: DictConfig, key: str, least: int) -> int:
    """Return an integer setting.

    Raises:
        ConfigError: it is no integer, or less than ``least``.
    """
    value = cfg[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{key}={value!r} is out of range; it must be a whole number of {least} or more.")
    return value


@contextmanager
def set_threads(count: int | None) -> Iterator[None]:
    """Use this many CPU threads for the length of a block."""
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def reported(result: dict[str, Any], folder: Path) -> Iterator[None]:
    """Write ``result.json`` however the block ends; log what ended it.

    Raises:
        DcondError: also for a failed write (disk full, read-only folder), in one line.
    """
    from dcond.engine.signals import Interrupted
    from dcond.report import result as results

    try:
        yield
        result["status"] = "done"
    except BaseException as error:
        result["status"] = "interrupted" if isinstance(error, Interrupted) else "failed"
        result["error"] = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, Interrupted):
            log.warning("%s", error)
        else:  # the console gets its line from Hydra
            known = isinstance(error, DcondError)
            log.error("%s", error, exc_info=None if known else error, extra={"file_only": True})
        try:
            results.write(result, folder)
        except OSError as second:
            log.warning("result.json could not be written: %s", second)
        if isinstance(error, OSError):
            raise DcondError(f"cannot write in {folder}: {error}. Free some space or choose another folder.") from error
        raise
    try:
        results.write(result, folder)
    except OSError as error:
        raise DcondError(f"cannot write {folder / results.NAME}: {error}.") from error
