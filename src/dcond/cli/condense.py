"""``dcond condense``: one run, or a job of a sweep, in the folder Hydra made for it."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond.cli.hydra_app import hydra_main
from dcond.cli.instantiate import (
    cpu_threads,
    locked_run_folder,
    relative_to_cwd,
    write_result_on_exit,
)
from dcond.cli.overrides import unquote_path
from dcond.cli.protocol_name import label_modified_protocol
from dcond.cli.run_config import (
    dataset_name,
    dump_config,
    extras,
    load_resume_config,
    result_affecting_config,
    selected_options,
    to_jsonable,
)
from dcond.cli.torchrun import is_main_process
from dcond.errors import CheckpointError
from dcond.log import print_results
from dcond.run.condensation import Condensation


def main(argv: list[str]) -> int:
    """Run the sub-command with the words after it."""
    if is_main_process():
        check_resume(argv)
    hydra_main(condense, "condense", argv)
    return 0


def check_resume(argv: list[str]) -> None:
    """Raise :class:`CheckpointError` for a folder without a run to resume, which Hydra would make or write to."""
    for word in argv:
        key, _, value = word.partition("=")
        if key != "resume" or value == "null":
            continue
        from dcond.run import checkpoint
        from dcond.run import result as results

        folder = Path(unquote_path(value))
        if not value:
            raise CheckpointError(
                "resume= names no folder; give the one of a run that was stopped, or leave the word out."
            )
        if not folder.is_dir():
            raise CheckpointError(
                f"nothing to resume: {value} is no folder; give the one of a run that was stopped."
            )
        file = folder / checkpoint.NAME
        if (
            not file.exists() and not (folder / results.NAME).exists()
        ):  # of a finished run something else is said
            raise CheckpointError(
                f"nothing to resume: {file} does not exist. Give the run folder that holds it."
            )


@contextmanager
def suggest_resume(job: Condensation) -> Iterator[None]:
    """Add to an interruption how to go on, where there is a checkpoint; of a whole sweep, its own last line says it."""
    from dcond.cli import sweep
    from dcond.run.signals import Interrupted

    try:
        yield
    except Interrupted as error:
        if job.resumable and not sweep.is_job():
            word = shlex.quote(f"resume={relative_to_cwd(job.folder)}")
            error.add_note(f"its checkpoint is kept. Go on with: dcond condense {word}")
        raise


def condense(cfg: DictConfig) -> float | None:
    """Run one configuration in the folder Hydra made for it.

    Returns:
        What a sweeper may choose by: the average accuracy on held-out training images, or None
            where there is none.
    """
    from hydra.core.hydra_config import HydraConfig

    from dcond.cli import sweep
    from dcond.run import result as results
    from dcond.run.signals import handle_signals

    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.runtime.output_dir)
    choices = dict(hydra_cfg.runtime.choices)
    moment = None
    if sweep.is_job():
        sweep.check(cfg, choices)
    else:
        results.refuse_finished(folder)
    if cfg.resume is not None:
        words: Any = OmegaConf.to_container(hydra_cfg.overrides.task)
        cfg, choices, moment = load_resume_config(cfg, choices, words, folder)
    else:
        label_modified_protocol(cfg, choices)
    text, numbers = dump_config(cfg, choices), result_affecting_config(cfg)
    result = results.new(
        method=choices["method"],
        dataset=dataset_name(cfg, choices["dataset"]),
        config_sha256=results.sha256(OmegaConf.to_yaml(numbers, sort_keys=True)),
        choices=selected_options(numbers, choices),
        config=to_jsonable(numbers),
        extras=extras(cfg) if cfg.evaluate else {},
    )
    if sweep.is_job():
        earlier = sweep.load_finished_job(folder, result, evaluated=bool(cfg.evaluate))
        if earlier is not None:
            return sweep.objective(earlier)
        moment = sweep.load_unfinished_checkpoint(
            folder, OmegaConf.to_yaml(numbers, sort_keys=True)
        )
    with (
        handle_signals() as stop,
        locked_run_folder(folder),
        write_result_on_exit(result, folder),
        stop.as_interrupted(),
        cpu_threads(cfg),
    ):
        job = Condensation(cfg, choices, text, folder, result, stop)
        with suggest_resume(job):
            tables = job.run(moment)
    print_results(*tables)
    return sweep.objective(result)
