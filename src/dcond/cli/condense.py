"""The job of ``dcond condense``, and ``dcond.condense``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from dcond.cli import sweep
from dcond.cli.compose import composed, python_overrides, python_run, write_hydra_files
from dcond.cli.instantiate import build_condensation
from dcond.cli.resume import load_resume_config, load_unfinished_checkpoint, suggest_resume
from dcond.cli.run_config import (
    config_hash,
    dataset_name,
    requested_extras,
    result_affecting_config,
    selected_options,
    to_jsonable,
)
from dcond.distributed import current
from dcond.errors import ConfigError
from dcond.log import print_results
from dcond.paths import expand_home, relative_to_cwd
from dcond.run.condensation import Condensed
from dcond.run.context import OVERWRITTEN, command_run, cpu_threads, refuse_foreign_files
from dcond.run.result import CHECKPOINT, RunResult


def condense(
    method: str | None = None,
    dataset: str | None = None,
    ipc: int | None = None,
    seed: int | None = None,
    *,
    overrides: Sequence[str] | None = None,
    folder: Path | str | None = None,
    progress: bool = True,
) -> Condensed:
    """Condense a data set as ``dcond condense`` does, and evaluate the set.

    The same settings and seed give the same bytes as the command. No signal handler, allocator
    setting or thread count is changed. Calls from several threads run one after another.

    Args:
        method: name of a method (``dcond list methods``). None, here and below: the command's
            default.
        dataset: name of a data set (``dcond list datasets``).
        ipc: images stored per class.
        seed: of all random numbers.
        overrides: further settings, as on the command line: ``["method.steps=200"]``.
        folder: run folder to write; None makes none (caches are written).
        progress: show a progress bar on a terminal, log lines elsewhere, also in a notebook; these
            are visible after ``logging.basicConfig(level=logging.INFO)``.

    Returns:
        The run: its ``synthetic`` set, its ``result``, and its ``folder``; prints as a table.

    Raises:
        DcondError: a setting is wrong, the data cannot be used, or the run diverged; one line.

    Example:
        >>> run = dcond.condense(method="m3d", dataset="digits", ipc=1)
        >>> run.synthetic, run.result.evaluation.average
        >>> print(run)  # the cross-architecture table
    """
    arguments = python_overrides(overrides, method=method, dataset=dataset, ipc=ipc, seed=seed)
    folder = None if folder is None else expand_home(folder)
    with composed("condense", arguments) as (cfg, choices):
        if cfg.resume is not None:
            raise ConfigError("resume= belongs to the command: dcond condense resume=RUN_FOLDER.")
    result = new_result(cfg, choices)
    with python_run("condense", result, folder, cfg, arguments):
        return build_condensation(
            cfg, choices, result, folder=folder, overrides=arguments, show_progress=progress
        ).run()


def run_job(cfg: DictConfig) -> float | None:
    """Run one configuration in the folder that Hydra made for it.

    Returns:
        The average accuracy on held-out training images, for a sweeper that chooses settings; None
        if accuracies are on the test set.
    """
    hydra_cfg = HydraConfig.get()
    folder, choices = Path(hydra_cfg.runtime.output_dir), dict(hydra_cfg.runtime.choices)
    overrides: Any = OmegaConf.to_container(hydra_cfg.overrides.task, resolve=False)  # as typed
    checkpoint = None
    if choices.get("method") is None or choices.get("dataset") is None:
        raise ConfigError(
            "the configuration does not choose a method and a data set, as one from .hydra/ does "
            "not; use resume=RUN_FOLDER, or the command in the README.md of the run."
        )
    if sweep.is_job():
        sweep.check(cfg, choices)
    else:
        RunResult.refuse_finished(folder)
    if cfg.resume is not None:
        cfg, choices, checkpoint = load_resume_config(cfg, choices, overrides, folder)
        overrides = sweep.saved_overrides(folder)
    searched = {source.provider for source in hydra_cfg.runtime.config_sources}
    own = "command-line" in searched or sweep.had_config_dir(folder)
    on_card = ["--config-dir=..."] if own else []
    result = new_result(cfg, choices)
    if sweep.is_job():
        earlier = sweep.load_finished_job(folder, result, evaluated=bool(cfg.evaluate))
        if earlier is not None:
            return sweep.objective(earlier)
        checkpoint = load_unfinished_checkpoint(folder, result_affecting_config(cfg))
    if checkpoint is None:
        refuse_foreign_files(folder, OVERWRITTEN)
    stopped = (folder / CHECKPOINT).exists() and (folder / ".hydra").is_dir()
    starts_over = checkpoint is None and stopped
    shown: list[Any] = []
    try:
        with command_run(result, folder) as stop, cpu_threads(sweep.threads(cfg)):
            if starts_over and current().first:
                write_hydra_files(folder, cfg, overrides)  # Hydra has spared those of a stopped run
            condensation = build_condensation(
                cfg, choices, result, folder=folder, stop=stop, overrides=[*on_card, *overrides]
            )
            with suggest_resume(folder, lambda: condensation.resumable):
                shown += condensation.run(checkpoint).parts
            shown.append(f"-> {relative_to_cwd(folder)}")
    finally:  # the result may have found no room on the disk
        if shown and not sweep.is_job():
            shown += sweep.tensorboard_command(folder)
        print_results(*shown)
    return sweep.objective(result)


def new_result(cfg: DictConfig, choices: dict[str, str]) -> RunResult:
    """Return the result of a condensation as it starts, with its names and settings."""
    affecting = result_affecting_config(cfg)
    return RunResult.start(
        method=choices["method"],
        dataset=dataset_name(cfg, choices["dataset"]),
        config_sha256=config_hash(affecting),
        choices=selected_options(affecting, choices),
        config=to_jsonable(affecting),
        extras=requested_extras(cfg) if cfg.evaluate else {},
    )
