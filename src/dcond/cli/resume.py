"""Continuing from a checkpoint: ``resume=``, and unfinished jobs of a sweep."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond.cli.run_config import config_hash, result_affecting_config
from dcond.errors import CheckpointError
from dcond.paths import conf_dir, relative_to_cwd
from dcond.run import checkpoint
from dcond.run.checkpoint import Checkpoint
from dcond.run.result import CHECKPOINT

log = logging.getLogger(__name__)


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
    check_trusted_targets(config, cfg, folder)
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key == "resume":
            continue
        is_choice = key in saved.choices
        before = saved.choices[key] if is_choice else OmegaConf.select(config, key)
        now = choices.get(key) if is_choice else OmegaConf.select(cfg, key)
        if before != now:
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


def check_trusted_targets(saved: DictConfig, given: DictConfig, folder: Path) -> None:
    """Refuse a checkpoint that names code of its own: it may come from anywhere, and it would run.

    Args:
        saved: the configuration in the checkpoint.
        given: that of the command line.
        folder: for the error.

    Raises:
        CheckpointError: a ``_target_`` that neither the command line nor a packaged file has.
    """
    foreign = _targets(OmegaConf.to_container(saved)) - _packaged_targets()
    foreign -= _targets(OmegaConf.to_container(given))
    if foreign:
        raise CheckpointError(
            f"{relative_to_cwd(folder)} asks to run code that is not dcond's: "
            f"{', '.join(sorted(foreign))}. If you trust it, add the overrides that name it to "
            "resume=, such as --config-dir DIR method=class_mean."
        )


def _targets(node: Any) -> set[str]:
    """Return every ``_target_`` in plain containers."""
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = {str(node["_target_"])} if isinstance(node, dict) and "_target_" in node else set()
    return own.union(*map(_targets, parts))


def _packaged_targets() -> set[str]:
    texts = (file.read_text(encoding="utf-8") for file in conf_dir().rglob("*.yaml"))
    return {target for text in texts for target in re.findall(r"\b_target_: *([\w.]+)", text)}


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
