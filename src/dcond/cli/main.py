"""Entry point of the command line: a table of sub-commands, each imported when it is called."""

import errno
import importlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import dcond
from dcond.cli.list import KINDS, entries
from dcond.cli.torchrun import exit_process, under_torchrun
from dcond.environment import expand_environment
from dcond.errors import DcondError, UsageError, did_you_mean, first_line
from dcond.paths import conf_dir

COMMANDS = {
    "condense": "make a synthetic set, then train and test several networks on it",
    "evaluate": "train several networks on a synthetic set and test them",
    "data": "download and convert a data set, or describe it",
    "experts": "train and cache the networks that mtt, datm and ncfm need",
    "relabel": "write a copy of a set with soft labels from a trained network",
    "report": "tables, figures and an HTML page from the results of many runs",
    "list": "list methods, data sets, models, pools, experiments and more",
    "merge": "join sets of different classes into one",
    "export": "convert a synthetic set to PNG files, npz, .pt or dcond's format",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
HYDRA_COMMANDS = ("condense", "evaluate")

USAGE = """usage: dcond COMMAND [OPTIONS]

{commands}

dcond COMMAND --help describes a command; options go after the command.
Tab completion: eval "$(dcond -sc install=bash)"
"""


def usage() -> str:
    """Return the text of ``dcond --help``."""
    lines = (f"  {name:<10}{description}" for name, description in COMMANDS.items())
    return USAGE.format(commands="\n".join(lines))


def command() -> NoReturn:
    """Run ``dcond`` as a program and end the process."""
    _open_streams()
    if os.name == "nt":
        sys.exit("dcond: Windows is not supported; run dcond in WSL, or on Linux or macOS.")
    try:
        status = main()
    except SystemExit as end:
        if not under_torchrun():
            raise
        status = int(end.code or 0)
    if under_torchrun():
        exit_process(status)
    # Ctrl-C during the shutdown of the interpreter would change the exit status.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def _open_streams() -> None:
    """Redirect closed standard streams (``>&-``) to the null device.

    Otherwise the next file that is opened takes their descriptor.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - open until the process ends


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``dcond`` and return its exit status.

    The status is 0 on success, 1 on an error, 2 on wrong usage, and 128 plus the signal's number
    (129, 130, 143) when a signal ended the run.
    """
    expand_environment()
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    if name == "-sc":
        return _complete(arguments)
    if name in ("--help", "-h"):
        print(usage(), end="")
        return 0
    if name == "--version":
        print(f"dcond {dcond.__version__}")
        return 0
    if name not in COMMANDS:
        error = f"dcond: unknown command {name!r}.{did_you_mean(name, COMMANDS)}\n\n"
        print((error if arguments else "") + usage(), end="", file=sys.stderr)
        return 2
    if name not in HYDRA_COMMANDS and under_torchrun():
        print(f"dcond: {name} runs in one process; start it without torchrun.", file=sys.stderr)
        return 2
    if name in HYDRA_COMMANDS:
        return _run("help" if {"--help", "-h"} & set(arguments) else "hydra_app", arguments)
    return _run(name, arguments[1:])


def _run(command: str, arguments: list[str]) -> int:
    """Run a sub-command and return its exit status."""
    try:
        app = importlib.import_module(f"dcond.cli.{command}")
        code = int(app.main(arguments))
        sys.stdout.flush()  # a broken pipe is handled below
        return code
    except KeyboardInterrupt:
        print("dcond: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (head, less) has ended
        _discard_unprinted()
        return 141
    except (DcondError, OSError, UnicodeError, RuntimeError, MemoryError) as error:
        message = str(error) if isinstance(error, DcondError) else _known_failure(error)
        if message is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"dcond: {message}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BaseException as error:
        # dcond.run.signals.Interrupted, whose module is not imported by every command
        signum = getattr(error, "signum", None)
        if signum is None:
            raise
        return 128 + int(signum)


def _known_failure(error: Exception) -> str | None:
    """Return the line for a file or an output that cannot be used, or for too little memory."""
    if isinstance(error, UnicodeEncodeError):
        way_out = "set PYTHONIOENCODING=utf-8:replace"
        return f"a text cannot be written in this encoding: {first_line(error)}; {way_out}."
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be used: {error.strerror}; choose another path."
    if isinstance(error, OSError) and error.errno in _FULL:
        _discard_unprinted()  # it may be stdout
        reason = f"{error.strerror}; free some space or write it elsewhere"
        return f"the output could not be written: {reason}."
    if isinstance(error, OSError | UnicodeError):
        return None
    from dcond.run.context import oom_message  # torch, which has failed

    return oom_message(error, {})


def _discard_unprinted() -> None:
    """Discard what stdout cannot print, which Python would try again at exit."""
    from dcond.log import redirect_to_devnull  # rich, which most commands do not need

    try:
        sys.stdout.flush()
    except OSError:
        redirect_to_devnull(sys.stdout)


def _complete(arguments: list[str]) -> int:
    """Serve the shell's completion: sub-commands here, the rest of a Hydra command by Hydra."""
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()[1:]
    command = typed[0] if typed else ""
    if any(argument.startswith("query") for argument in arguments):
        if command not in COMMANDS or (len(typed) == 1 and not line.endswith(" ")):
            print(" ".join(name for name in COMMANDS if name.startswith(command)))
            return 0
        if command not in HYDRA_COMMANDS:
            print(" ".join(_completions(typed, line)))
            return 0
        os.environ["COMP_LINE"] = re.sub(rf"\s{command}\b\s*", " ", line, count=1)
    command = command if command in HYDRA_COMMANDS else "condense"
    return _run("hydra_app", [command, *arguments])


def _completions(typed: list[str], line: str) -> list[str]:
    """Return the completions of ``list`` and ``data``; the shell completes file names."""
    complete, prefix = (typed, "") if line.endswith(" ") else (typed[:-1], typed[-1])
    options: list[str] = []
    if complete == ["list"]:
        options = list(KINDS)
    elif complete == ["data"]:
        options = ["prepare", "info"]
    elif complete[:1] == ["data"] and len(complete) == 2:
        options = [entry.name for entry in entries(conf_dir() / "dataset")]
    return [option for option in options if option.startswith(prefix)]
