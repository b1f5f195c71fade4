"""Logging and printing: Rich on a terminal, plain lines in a file or a pipe."""

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console, RenderableType
from rich.text import Text

log = logging.getLogger(__name__)


class _SafeStream:
    """A stream whose output goes to the null device once writing fails (a closed terminal)."""

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


class SafeConsole(Console):
    """A console that ignores a closed terminal, so that a run under nohup continues."""

    @property  # type: ignore[misc]
    def file(self) -> IO[str]:
        """The stream that the console writes to."""
        return cast(IO[str], _SafeStream(super().file))


def counted(total: int, what: str, every_s: float = 10.0) -> Iterator[int]:
    """Yield 0 to ``total`` - 1; log a line every ``every_s`` seconds, the first after 3."""
    start = time.monotonic()
    due = start + min(3.0, every_s)
    for done in range(total):
        if (now := time.monotonic()) >= due and done > 0:
            eta = (now - start) / done * (total - done)
            log.info("%s %d/%d  eta %.0f s", what, done, total, eta)
            due = now + every_s
        yield done


def format_duration(seconds: float) -> str:
    """Write a duration: ``3.1 s``, ``4:05 min``, ``2:07:30 h``."""
    if seconds < 59.95:  # larger ones would round to 60.0
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"


@cache
def console() -> Console:
    """Return the console for messages and progress (stderr); results go to stdout."""
    return SafeConsole(stderr=True)


class _TerminalHandler(logging.Handler):
    """Print time and message above a progress bar.

    Long lines are left to the terminal to wrap, so that a path can be copied in one piece.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        try:
            when = Text(time.strftime("%H:%M:%S", time.localtime(record.created)), "log.time")
            console().print(when, console().highlighter(self.format(record)), soft_wrap=True)
        except Exception:
            self.handleError(record)


def console_handler() -> logging.Handler:
    """Return the log handler of the console, named in ``conf/hydra/job_logging/dcond.yaml``.

    Without a terminal it writes plain lines, since Rich would wrap them at 80 columns.
    """
    handler: logging.Handler = logging.StreamHandler()
    if console().is_terminal:
        handler = _TerminalHandler()
    handler.addFilter(_not_file_only)
    return handler


def log_plainly() -> None:
    """Show log messages as plain lines: for commands that Hydra does not run."""
    handler = logging.StreamHandler()
    handler.addFilter(_not_file_only)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])


class _LogFile(logging.FileHandler):
    """A file that is opened on first use; one that cannot be written is no error of the run."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            super().emit(record)


class _PassedOn(logging.Handler):
    """Passes records on to the handlers that would get them otherwise.

    Args:
        level: below which dcond's logger dropped records, unless a logger below has its own level.
        handlers: of dcond's logger.
        propagate: whether the program's root handlers get them too.
    """

    def __init__(self, level: int, handlers: Sequence[logging.Handler], *, propagate: bool):
        super().__init__()
        self.least, self.handlers, self.propagate = level, handlers, propagate

    def emit(self, record: logging.LogRecord) -> None:
        logger: Any = logging.getLogger(record.name)  # below dcond's, which has this handler
        while logger.name != "dcond" and logger.level == logging.NOTSET:
            logger = logger.parent
        if record.levelno < self.least and logger.name == "dcond":
            return
        for handler in self.handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
        if self.propagate and (logging.root.hasHandlers() or _not_file_only(record)):
            logging.root.callHandlers(record)


@contextmanager
def logged_to(file: Path) -> Iterator[None]:
    """Also write dcond's messages to a file; the program's handlers get those they got before."""
    logger = logging.getLogger("dcond")
    level, propagate, handlers = logger.level, logger.propagate, list(logger.handlers)
    own = _LogFile(file, encoding="utf-8", delay=True)  # a refused run writes nothing
    own.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    least = logger.getEffectiveLevel()
    logger.setLevel(min(logging.INFO, least))
    logger.propagate = False
    logger.handlers[:] = [own, _PassedOn(least, handlers, propagate=propagate)]
    try:
        yield
    finally:
        logger.handlers[:] = handlers
        own.close()
        logger.setLevel(level)
        logger.propagate = propagate


def _not_file_only(record: logging.LogRecord) -> bool:
    return not getattr(record, "file_only", False)


def print_results(*parts: RenderableType) -> None:
    """Print results; ignore a closed or full stdout, since they are already saved.

    A table is as wide as its numbers: a narrow terminal wraps its lines, rather than cutting them.
    """
    stdout = _StdoutConsole()
    wide = stdout.options.update(width=1000)
    tables = (part for part in parts if not isinstance(part, str))
    needed = (stdout.measure(part, options=wide).minimum for part in tables)
    stdout.width = max([stdout.width, *needed])
    try:
        for part in parts:
            stdout.print(
                Text(part) if isinstance(part, str) else part, soft_wrap=isinstance(part, str)
            )
    except (OSError, UnicodeError) as error:
        if not isinstance(error, BrokenPipeError):  # the reader (head, less) has ended
            log.warning("the results could not be printed: %s", error)
        redirect_to_devnull(sys.stdout)


class _StdoutConsole(Console):
    def on_broken_pipe(self) -> None:
        """Raise the error again; Rich would end the process."""
        raise  # Rich calls this in its except clause


def redirect_to_devnull(stream: IO[str]) -> None:
    """Discard what a stream still writes, such as its buffer when Python ends."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
