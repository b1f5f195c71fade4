"""Several processes that torchrun started, as one run: rank 0 reads the words, the others follow it in silence."""

import functools
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, NoReturn, cast

from dcond.errors import DcondError, UnsupportedError, first_line

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from dcond.distributed import TorchRanks

_TOLD = {
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
}  # some clusters set part of them

Task = Callable[["DictConfig"], Any]  # what it returns is for Hydra, in rank 0


def under_torchrun() -> bool:
    """Tell whether torchrun started more than this process; torch is not imported to know it."""
    return os.environ.keys() >= _TOLD and int(os.environ["WORLD_SIZE"]) > 1


def is_main_process() -> bool:
    """Tell whether this process reads the words and speaks: it is alone, or rank 0."""
    return not under_torchrun() or os.environ["RANK"] == "0"


def exit_process(status: int) -> NoReturn:
    """End this process at once, its output written.

    Not through Python's own end: there gloo's threads are sometimes caught while their library is
    taken down, and a run that is finished and saved ends with SIGABRT ("terminate called without an
    active exception", PyTorch 2.15).
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run_on_all_ranks(task: Task, lead: Callable[[Task], None], argv: list[str]) -> None:
    """Run a task in all processes.

    Args:
        task: takes the configuration.
        lead: makes the configuration and runs the task it is given, in rank 0 only.
        argv: the words after the sub-command.

    Raises:
        UnsupportedError: the words ask for a sweep.
        DcondError: what went wrong; outside of rank 0 only what that has not said.
    """
    from dcond.distributed import TorchRanks, use_group

    ranks = TorchRanks()
    with use_group(ranks):
        try:
            if ranks.first:
                _refuse_sweeps(argv)
                _lead(ranks, task, lead)
            else:
                _follow(ranks, task)
        except BaseException as error:
            _last_words(ranks, error)
            raise
        ranks.close()


def _refuse_sweeps(argv: list[str]) -> None:
    if {"-m", "--multirun"} & set(argv):
        raise UnsupportedError(
            "-m sweeps over jobs of one process each; leave out torchrun, or start one job of it at a time."
        )


def _lead(ranks: "TorchRanks", task: Task, lead: Callable[[Task], None]) -> None:
    told = False

    @functools.wraps(task)
    def telling(cfg: "DictConfig") -> Any:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        nonlocal told
        told = True
        ranks.from_first(json.dumps([OmegaConf.to_yaml(cfg), OmegaConf.to_yaml(HydraConfig.get())]))
        return task(cfg)

    try:
        lead(telling)
    except SystemExit as end:
        if end.code:
            raise
    if not told:  # --help, --cfg and the like
        ranks.from_first("")


def _follow(ranks: "TorchRanks", task: Task) -> None:
    """Run the task with rank 0's configuration, folder and all: nothing here may be made anew, such as a time."""
    given = ranks.from_first("")
    if not given:
        return
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import setup_globals
    from omegaconf import OmegaConf

    setup_globals()
    config, hydra = (OmegaConf.create(text) for text in json.loads(given))
    OmegaConf.set_struct(config, True)
    HydraConfig.instance().cfg = cast(Any, OmegaConf.create({"hydra": hydra}))
    with _silence():
        task(cast("DictConfig", config))


@contextmanager
def _silence() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _last_words(ranks: "TorchRanks", error: BaseException) -> None:
    """Tell the other processes why this one ends, and let rank 0 tell the user, if it can.

    Raises:
        DcondError: rank 0 has not, so this process does.
        SystemExit: it has.
    """
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # torchrun ends all once one has
        signal.signal(signum, signal.SIG_IGN)
    ranks.say(first_line(error))
    if ranks.first:
        return
    if ranks.first_has_spoken():
        raise SystemExit(_status(error)) from None
    if isinstance(error, DcondError):
        raise DcondError(f"process {ranks.rank} of {ranks.count}: {error}") from error


def _status(error: Any) -> int:
    """Return the exit status of a process that ends by an error or a signal, as the command line has it."""
    return 128 + int(error.signum) if hasattr(error, "signum") else 1
