"""Whether torchrun started several processes, without importing torch."""

import logging
import os
import sys
from typing import NoReturn

# Some clusters set only some of them.
_TORCHRUN_VARIABLES = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"}


def under_torchrun() -> bool:
    """Return whether torchrun started several processes, without importing torch."""
    return os.environ.keys() >= _TORCHRUN_VARIABLES and int(os.environ["WORLD_SIZE"]) > 1


def is_main_process() -> bool:
    """Return whether this process reads the arguments and prints: a single process, or rank 0."""
    return not under_torchrun() or os.environ["RANK"] == "0"


def exit_process(status: int) -> NoReturn:
    """Flush all output and end this process without the shutdown of the interpreter.

    During that shutdown gloo's threads sometimes abort a process whose run is finished and saved
    (SIGABRT, "terminate called without an active exception", PyTorch 2.15).
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
