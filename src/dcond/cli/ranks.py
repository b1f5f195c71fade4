"""One run in several processes started by torchrun.

Rank 0 reads the arguments and prints; the others receive its configuration.
"""

import json
import logging
import os
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf

from dcond.cli.flags import is_sweep
from dcond.distributed import TorchRanks, use_group
from dcond.errors import DcondError, UnsupportedError, first_line
from dcond.run.signals import ignore_signals

Task = Callable[[DictConfig], Any]  # rank 0 returns the result to Hydra


def run_on_all_ranks(task: Task, lead: Callable[[Task], None], argv: list[str]) -> None:
    """Run a task in all processes.

    Args:
        task: Function of the configuration.
        lead: Composes the configuration and runs the task passed to it; called in rank 0 only.
        argv: The arguments after the sub-command.

    Raises:
        UnsupportedError: The arguments ask for a sweep.
        DcondError: The error of this process; outside of rank 0 only if rank 0 has not reported it.
    """
    ranks = TorchRanks()
    with use_group(ranks):
        try:
            if ranks.first:
                if is_sweep(argv):
                    raise UnsupportedError(
                        "-m starts jobs of one process each; omit torchrun, or start one at a time "
                        "without -m."
                    )
                _lead(ranks, task, lead)
            else:
                _follow(ranks, task)
        except BaseException as error:
            _end_all_ranks(ranks, error)
            raise
        ranks.close()


def _lead(ranks: TorchRanks, task: Task, lead: Callable[[Task], None]) -> None:
    was_sent = False

    def send_and_run(cfg: DictConfig) -> Any:
        nonlocal was_sent
        was_sent = True
        ranks.from_first(json.dumps([OmegaConf.to_yaml(cfg), OmegaConf.to_yaml(HydraConfig.get())]))
        return task(cfg)

    try:
        lead(send_and_run)
    except SystemExit as end:
        if end.code:
            raise
    if not was_sent:  # --cfg and other flags that only print
        ranks.from_first("")


def _follow(ranks: TorchRanks, task: Task) -> None:
    """Run the task with the configuration of rank 0, in which times and folders are resolved."""
    received = ranks.from_first("")
    if not received:
        return
    setup_globals()
    config, hydra = (OmegaConf.create(text) for text in json.loads(received))
    OmegaConf.set_struct(config, True)
    HydraConfig.instance().cfg = cast(Any, OmegaConf.create({"hydra": hydra}))
    logging.disable(logging.CRITICAL)  # in this process for good: rank 0 logs
    with (
        open(os.devnull, "w", encoding="utf-8") as devnull,
        redirect_stdout(devnull),
        warnings.catch_warnings(action="ignore"),
    ):
        task(cast(DictConfig, config))


def _end_all_ranks(ranks: TorchRanks, error: BaseException) -> None:
    """Send the error of this process to the others; rank 0 reports it to the user if it can.

    Raises:
        DcondError: Rank 0 has not reported an error, so this process does.
        SystemExit: Rank 0 has reported it.
    """
    ignore_signals()
    ranks.report_end(first_line(error))
    if ranks.first:
        return
    if ranks.rank0_has_reported():
        number = getattr(error, "signum", None)  # of a signal
        raise SystemExit(1 if number is None else 128 + int(number)) from None
    if isinstance(error, DcondError):
        raise DcondError(f"process {ranks.rank} of {ranks.count}: {error}") from error
