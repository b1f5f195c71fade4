"""Continuing from a checkpoint: ``resume=``, and unfinished jobs of a sweep."""

import logging
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond.cli import sweep
from dcond.cli.run_config import config_hash, result_affecting_config
from dcond.errors import CheckpointError
from dcond.paths import conf_dir, relative_to_cwd
from dcond.run import checkpoint
from dcond.run.checkpoint import Checkpoint
from dcond.run.result import CHECKPOINT, UNFINISHED
from dcond.run.signals import Interrupted

log = logging.getLogger(__name__)

_MAKES_CONFIG = re.compile(r"\$\{\s*oc\.(create|decode)\b")
_PACKAGED = re.compile(r"\b_target_: *([\w.]+)|: (\$\{oc\.decode:\S*)")


@contextmanager
def suggest_resume(folder: Path, resumable: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Add the command that goes on to an interruption or a failed write, if something is kept.

    For a job of a sweep the sweep reports how to go on.

    Args:
        folder: of the run.
        resumable: whether it has a checkpoint of this run.
    """
    try:
        yield
    except (Interrupted, OSError) as error:
        if sweep.is_job():
            pass
        elif resumable() and (folder / CHECKPOINT).exists():
            argument = shlex.quote(f"resume={relative_to_cwd(folder)}")
            if sweep.had_config_dir(folder):  # of code that a checkpoint does not name
                argument += " --config-dir DIR method=NAME"
            error.add_note(f"a checkpoint is saved. Resume with: dcond condense {argument}")
        elif (folder / UNFINISHED).is_dir():
            argument = shlex.quote(f"hydra.run.dir={relative_to_cwd(folder)}")
            error.add_note(
                f"finished networks are kept. Go on with the same command and {argument}."
            )
        raise


def load_resume_config(
    cfg: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str], folder: Path
) -> tuple[DictConfig, dict[str, str], Checkpoint]:
    """Return the configuration saved in a run's checkpoint, its choices, and the checkpoint.

    Args:
        cfg: of the command line.
        choices: of the command line.
        overrides: as typed.
        folder: of the run.

    Raises:
        CheckpointError: there is no checkpoint; it names code that neither dcond nor the command
            line names; or an override contradicts the saved configuration.
    """
    saved_checkpoint = checkpoint.load(folder)
    saved = OmegaConf.create(saved_checkpoint.config)
    config = OmegaConf.create(saved.config)  # its own root: interpolations start there
    if foreign := foreign_targets(config, cfg):  # the checkpoint may come from anywhere
        raise CheckpointError(
            f"{relative_to_cwd(folder)} asks to run code that is not dcond's: "
            f"{', '.join(sorted(foreign))}. If you trust it, add the overrides that name it to "
            "resume=, such as --config-dir DIR method=class_mean."
        )
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key == "resume":
            continue
        is_choice = key in saved.choices or key in choices
        before = saved.choices.get(key) if is_choice else OmegaConf.select(config, key)
        now = choices.get(key) if is_choice else OmegaConf.select(cfg, key)
        if before != now:
            before, now = ("null" if value is None else value for value in (before, now))
            raise CheckpointError(
                f"{folder} was started with {key}={before}, the command line has {key}={now}; "
                "omit it to resume, or start a new run."
            )
    config.resume = cfg.resume
    for key in map(str, cfg):  # settings that this version has and the saved configuration lacks
        if key not in config:
            config[key] = cfg[key]
    config.scores = OmegaConf.merge(cfg.scores, config.scores)
    OmegaConf.set_struct(config, True)
    return config, dict(saved.choices), saved_checkpoint


def foreign_targets(saved: DictConfig, given: DictConfig) -> set[str]:
    """Return what a saved configuration would run that no packaged file and not ``given`` names.

    An interpolation that makes a configuration from text counts, since it may hold a ``_target_``.
    """
    known = {
        target or interpolation
        for file in conf_dir().rglob("*.yaml")
        for target, interpolation in _PACKAGED.findall(file.read_text(encoding="utf-8"))
    }
    own = _targets(OmegaConf.to_container(given))
    return _targets(OmegaConf.to_container(saved)) - known - own


def _targets(node: Any) -> set[str]:
    """Return every ``_target_``, and every text that becomes configuration, in plain containers."""
    if isinstance(node, str):
        return {node} if _MAKES_CONFIG.search(node) else set()
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = {str(node["_target_"])} if isinstance(node, dict) and "_target_" in node else set()
    return own.union(*map(_targets, parts))


def load_unfinished_checkpoint(folder: Path, requested: DictConfig) -> Checkpoint | None:
    """Return the checkpoint of a job that an earlier start of the sweep left unfinished.

    Args:
        folder: of the job.
        requested: :func:`~dcond.cli.run_config.result_affecting_config` of what is asked for now.

    Returns:
        None if there is no checkpoint.

    Raises:
        CheckpointError: the checkpoint is damaged, or was made with other settings.
    """
    if not (folder / CHECKPOINT).exists():
        return None
    saved = checkpoint.load(folder)
    config = result_affecting_config(OmegaConf.create(saved.config).config)
    if config_hash(config) != config_hash(requested):
        raise CheckpointError(
            f"{folder} was started with other settings; choose another hydra.sweep.dir, or remove "
            "that folder."
        )
    log.info("%s resumes at step %d", relative_to_cwd(folder), saved.step)
    return saved
