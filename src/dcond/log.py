"""Where output goes: people read stderr through Rich on a terminal, plain lines in a file or a pipe."""

import logging
import os
import sys
import time
from functools import cache
from typing import IO, Any, cast

from rich.console import Console, RenderableType
from rich.text import Text

log = logging.getLogger(__name__)


class _Lasting:
    """A stream that, once nobody takes what is written (the terminal was closed), leads nowhere."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            redirect_to_devnull(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            redirect_to_devnull(self._stream)


class LastingConsole(Console):
    """A console that goes on in silence where its terminal has gone away: a run under nohup outlives it."""

    @property  # type: ignore[misc]
    def file(self) -> IO[str]:
        """Where it writes to."""
        return cast(IO[str], _Lasting(super().file))


@cache
def console() -> Console:
    """The console of messages and progress (stderr); results go to stdout."""
    return LastingConsole(stderr=True)


class _TerminalHandler(logging.Handler):
    """Time and message above a progress bar; the terminal breaks long lines, so that a path is copied in one piece."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        try:
            when = Text(time.strftime("%H:%M:%S", time.localtime(record.created)), "log.time")
            console().print(when, console().highlighter(self.format(record)), soft_wrap=True)
        except Exception:
            self.handleError(record)


def console_handler() -> logging.Handler:
    """Make the console's log handler; named in ``conf/hydra/job_logging/dcond.yaml``.

    Rich wraps at 80 columns where there is no terminal, which breaks grep: plain lines are used
    there.
    """
    handler: logging.Handler = logging.StreamHandler()
    if console().is_terminal:
        handler = _TerminalHandler()
    handler.addFilter(lambda record: not getattr(record, "file_only", False))
    return handler


def print_results(*parts: RenderableType) -> None:
    """Print results, text as it is; a stdout that takes nothing is let go, for what has been done is done."""
    paper = _Paper()
    try:
        for part in parts:
            paper.print(
                Text(part) if isinstance(part, str) else part, soft_wrap=isinstance(part, str)
            )
    except (OSError, UnicodeError) as error:
        if not isinstance(
            error, BrokenPipeError
        ):  # the reader (head, less) went away: nobody to tell
            log.warning("the results could not be printed: %s", error)
        redirect_to_devnull(sys.stdout)


class _Paper(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the caller: Rich by itself would end the process."""
        raise  # called where it is handled


def redirect_to_devnull(stream: IO[str]) -> None:
    """Send what is still to be written nowhere: Python would try again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
