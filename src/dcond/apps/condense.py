"""``dcond condense``: one run, or a job of a sweep, in the folder Hydra made for it."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond.apps.condensation import Job
from dcond.apps.job import cpu_prepared, nearby, owned, reported
from dcond.apps.kept import chosen, dataset_name, extras, frozen, numbers_of, plain, resumed
from dcond.apps.launch import hydra_main
from dcond.apps.protocol_name import name_changes
from dcond.apps.torchrun import leads
from dcond.errors import CheckpointError
from dcond.log import tell


def main(argv: list[str]) -> int:
    """Run the sub-command with the words after it."""
    if leads():
        check_resume(argv)
    hydra_main(condense, "condense", argv)
    return 0


def check_resume(argv: list[str]) -> None:
    """Raise :class:`CheckpointError` for a folder without a run to resume, which Hydra would make or write to."""
    for word in argv:
        key, _, value = word.partition("=")
        if key != "resume" or value == "null":
            continue
        from dcond.engine import checkpoint
        from dcond.report import result as results

        folder = Path(value.strip("'\""))
        if not value:
            raise CheckpointError(
                "resume= names no folder; give the one of a run that was stopped, or leave the word out."
            )
        if not folder.is_dir():
            raise CheckpointError(f"nothing to resume: {value} is no folder; give the one of a run that was stopped.")
        file = folder / checkpoint.NAME
        if not file.exists() and not (folder / results.NAME).exists():  # of a finished run something else is said
            raise CheckpointError(f"nothing to resume: {file} does not exist. Give the run folder that holds it.")


@contextmanager
def way_back(job: Job) -> Iterator[None]:
    """Add to an interruption how to go on, where there is a checkpoint; of a whole sweep, its own last line says it."""
    from dcond.apps import sweep
    from dcond.engine.signals import Interrupted

    try:
        yield
    except Interrupted as error:
        if job.resumable and not sweep.is_job():
            word = shlex.quote(f"resume={nearby(job.folder)}")
            error.add_note(f"its checkpoint is kept. Go on with: dcond condense {word}")
        raise


def condense(cfg: DictConfig) -> float | None:
    """Run one configuration in the folder Hydra made for it.

    Returns:
        What a sweeper may choose by: the average accuracy on held-out training images, or None where there is none.
    """
    from hydra.core.hydra_config import HydraConfig

    from dcond.apps import sweep
    from dcond.engine.signals import caught
    from dcond.report import result as results

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
        cfg, choices, moment = resumed(cfg, choices, words, folder)
    else:
        name_changes(cfg, choices)
    text, numbers = frozen(cfg, choices), numbers_of(cfg)
    result = results.new(
        method=choices["method"],
        dataset=dataset_name(cfg, choices["dataset"]),
        config_sha256=results.sha256(OmegaConf.to_yaml(numbers, sort_keys=True)),
        choices=chosen(numbers, choices),
        config=plain(numbers),
        extras=extras(cfg) if cfg.evaluate else {},
    )
    if sweep.is_job():
        earlier = sweep.finished_before(folder, result, evaluated=bool(cfg.evaluate))
        if earlier is not None:
            return sweep.objective(earlier)
        moment = sweep.left_behind(folder, OmegaConf.to_yaml(numbers, sort_keys=True))
    with caught() as stop, owned(folder), reported(result, folder), stop.heard(), cpu_prepared(cfg):
        job = Job(cfg, choices, text, folder, result, stop)
        with way_back(job):
            tables = job.run(moment)
    tell(*tables)
    return sweep.objective(result)
