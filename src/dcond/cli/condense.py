"""``dcond condense`` and ``dcond.condense``: one run, or a job of a sweep."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from dcond.cli import sweep
from dcond.cli.compose import composed, one_at_a_time, write_hydra_files
from dcond.cli.hydra_app import hydra_main
from dcond.cli.overrides import unquote_path
from dcond.cli.run_config import (
    config_hash,
    dataset_name,
    dump_config,
    label_modified_protocol,
    load_resume_config,
    requested_extras,
    result_affecting_config,
    selected_options,
    to_jsonable,
)
from dcond.cli.torchrun import is_main_process
from dcond.errors import CheckpointError, ConfigError
from dcond.log import print_results
from dcond.paths import relative_to_cwd

if TYPE_CHECKING:  # torch takes seconds to import, and --help does not need it
    from dcond.run.condensation import Condensation, Condensed
    from dcond.run.result import RunResult


def main(argv: list[str]) -> int:
    """Run the sub-command with its arguments."""
    if is_main_process():
        check_resume(argv)
    hydra_main(run_job, "condense", argv)
    return 0


def condense(
    method: str | None = None,
    dataset: str | None = None,
    ipc: int | None = None,
    seed: int | None = None,
    *,
    overrides: Sequence[str] = (),
    folder: Path | str | None = None,
    progress: bool = True,
) -> "Condensed":
    """Condense a data set as ``dcond condense`` does, and evaluate the set.

    The same settings and seed give the same bytes as the command. No signal handler, allocator
    setting or thread count is changed. Calls from several threads run one after another.

    Args:
        method: option of the group ``method``; the command's default if None, as for the others.
        dataset: option of the group ``dataset``.
        ipc: images stored per class.
        seed: of all random streams.
        overrides: further settings, as on the command line: ``["method.steps=200"]``.
        folder: gets the files of a run folder; None writes none.
        progress: show a progress bar on a terminal, log lines elsewhere.

    Raises:
        DcondError: a wrong setting, unusable data, a diverged run; one line.

    Example:
        >>> run = dcond.condense(method="m3d", dataset="digits", ipc=1)
        >>> run.synthetic, run.result.evaluation.average
        >>> print(run)  # the cross-architecture table
    """
    named = {"method": method, "dataset": dataset, "ipc": ipc, "seed": seed}
    arguments = [f"{key}={value}" for key, value in named.items() if value is not None]
    from dcond.cli.instantiate import build_condensation
    from dcond.run.context import locked_run_folder, write_result_on_exit

    folder = None if folder is None else Path(folder)
    with composed("condense", [*arguments, *overrides]) as (cfg, choices):
        if cfg.resume is not None:
            raise ConfigError("resume= belongs to the command: dcond condense resume=RUN_FOLDER.")
        label_modified_protocol(cfg, choices)
    result = new_result(cfg, choices)

    def build() -> "Condensation":
        return build_condensation(
            cfg,
            choices,
            result,
            folder=folder,
            config=dump_config(cfg, choices),
            show_progress=progress,
        )

    with one_at_a_time:
        if folder is None:
            condensed = build().run()
            result.status = "done"
            return condensed
        folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time, locked_run_folder(folder), write_result_on_exit(result, folder):
        write_hydra_files(folder, cfg, [*arguments, *overrides])
        return build().run()


def run_job(cfg: DictConfig) -> float | None:
    """Run one configuration in the folder that Hydra made for it.

    Returns:
        The average accuracy on held-out training images, for a sweeper that chooses settings; None
        if accuracies are on the test set.
    """
    from dcond.cli.instantiate import build_condensation, get
    from dcond.run.context import cpu_threads, locked_run_folder, write_result_on_exit
    from dcond.run.result import RunResult
    from dcond.run.signals import handle_signals
    from dcond.settings import PositiveInt

    hydra_cfg = HydraConfig.get()
    folder, choices = Path(hydra_cfg.runtime.output_dir), dict(hydra_cfg.runtime.choices)
    checkpoint = None
    if sweep.is_job():
        sweep.check(cfg, choices)
    else:
        RunResult.refuse_finished(folder)
    if cfg.resume is not None:
        overrides: Any = OmegaConf.to_container(hydra_cfg.overrides.task)
        cfg, choices, checkpoint = load_resume_config(cfg, choices, overrides, folder)
    else:
        label_modified_protocol(
            cfg,
            choices,
            config_name=str(hydra_cfg.job.config_name),
            searchpath=sweep.searchpath_overrides(),
        )
    result = new_result(cfg, choices)
    if sweep.is_job():
        earlier = sweep.load_finished_job(folder, result, evaluated=bool(cfg.evaluate))
        if earlier is not None:
            return sweep.objective(earlier)
        checkpoint = sweep.load_unfinished_checkpoint(folder, result_affecting_config(cfg))
    with (
        handle_signals() as stop,
        locked_run_folder(folder),
        write_result_on_exit(result, folder),
        stop.as_interrupted(),
    ):
        threads = get(cfg, "threads", PositiveInt | None)
        with cpu_threads(sweep.threads() if threads is None else threads):
            condensation = build_condensation(
                cfg,
                choices,
                result,
                folder=folder,
                stop=stop,
                config=dump_config(cfg, choices),
            )
            with suggest_resume(condensation, folder):
                condensed = condensation.run(checkpoint)
    print_results(*condensed.parts)
    return sweep.objective(result)


def new_result(cfg: DictConfig, choices: dict[str, str]) -> "RunResult":
    """Return the result of a condensation as it starts, with its names and settings."""
    from dcond.run.result import RunResult

    affecting = result_affecting_config(cfg)
    return RunResult.start(
        method=choices["method"],
        dataset=dataset_name(cfg, choices["dataset"]),
        config_sha256=config_hash(affecting),
        choices=selected_options(affecting, choices),
        config=to_jsonable(affecting),
        extras=requested_extras(cfg) if cfg.evaluate else {},
    )


def check_resume(argv: list[str]) -> None:
    """Raise :class:`CheckpointError` for ``resume=`` of a folder without a run.

    Hydra would create the folder, or write into it.
    """
    from dcond.run.checkpoint import NAME
    from dcond.run.result import NAME as RESULT

    for override in argv:
        key, _, value = override.partition("=")
        if key != "resume" or value == "null":
            continue
        folder = Path(unquote_path(value))
        if not value:
            raise CheckpointError(
                "resume= names no folder; give the folder of an unfinished run, or omit it."
            )
        if not folder.is_dir():
            raise CheckpointError(
                f"nothing to resume: {value} is not a folder; give that of an unfinished run."
            )
        # A finished run is refused later, by another message.
        if not (folder / NAME).exists() and not (folder / RESULT).exists():
            raise CheckpointError(
                f"nothing to resume: {folder / NAME} does not exist; give the folder that has it."
            )


@contextmanager
def suggest_resume(condensation: "Condensation", folder: Path) -> Iterator[None]:
    """Add the command that resumes to an interruption, if there is a checkpoint.

    For a job of a sweep the sweep reports how to go on.
    """
    from dcond.run.signals import Interrupted

    try:
        yield
    except Interrupted as error:
        if condensation.resumable and not sweep.is_job():
            argument = shlex.quote(f"resume={relative_to_cwd(folder)}")
            error.add_note(f"a checkpoint is saved. Resume with: dcond condense {argument}")
        raise
