"""Where output goes: people read stderr through Rich on a terminal, plain lines in a file or a pipe."""

import logging
from functools import cache

from rich.console import Console
from rich.logging import RichHandler


@cache
def console() -> Console:
    """The console of messages and progress (stderr); results go to stdout."""
    return Console(stderr=True)


def console_handler() -> logging.Handler:
    """Make the console's log handler; named in ``conf/hydra/job_logging/dcond.yaml``.

    Rich wraps at 80 columns where there is no terminal, which breaks grep: plain lines are used there.
    """
    handler: logging.Handler = logging.StreamHandler()
    if console().is_terminal:
        handler = RichHandler(
            console=console(), show_path=False, show_level=False, log_time_format="%H:%M:%S", markup=False
        )
    handler.addFilter(lambda record: not getattr(record, "file_only", False))
    return handler
