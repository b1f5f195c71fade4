"""The command line: a table of sub-commands, each imported only when it is called."""

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import dcond
from dcond.cli.torchrun import exit_process, under_torchrun
from dcond.errors import DcondError, UsageError, did_you_mean

COMMANDS = {
    "condense": "make a synthetic set, then train unlike networks on it and test them",
    "evaluate": "train and test a pool of networks on a synthetic set",
    "data": "prepare or describe a data set",
    "report": "tables, figures and a page from the results of many runs",
    "list": "what there is: methods, datasets, models, pools, experiments",
    "export": "write a synthetic set as PNG files, npz or a plain .pt",
}
HYDRA_COMMANDS = ("condense", "evaluate")

USAGE = """usage: dcond COMMAND [OPTIONS]

{commands}

dcond COMMAND --help tells more; options go after the command. Tab completion: eval "$(dcond -sc install=bash)"
"""


def usage() -> str:
    """Return the text of ``dcond --help``."""
    return USAGE.format(
        commands="\n".join(f"  {name:<10}{what}" for name, what in COMMANDS.items())
    )


def command() -> NoReturn:
    """Be ``dcond`` as a shell starts it: run, then end the process."""
    _open_streams()
    try:
        status = main()
    except SystemExit as end:
        if not under_torchrun():
            raise
        status = int(end.code or 0)
    if under_torchrun():
        exit_process(status)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Python's own end takes a while, in which it would undo the status
    sys.exit(status)


def _open_streams() -> None:
    """Let standard streams that are closed (``>&-``) lead nowhere: the next open file would take their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``dcond``; return the exit status: 0 done, 1 failed, 2 wrong usage, 129/130/143 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["-sc"]:
        return _completion(words)
    if words[:1] in (["--help"], ["-h"]):
        print(usage(), end="")
        return 0
    if words[:1] == ["--version"]:
        print(f"dcond {dcond.__version__}")
        return 0
    if not words or words[0] not in COMMANDS:
        wrong = (
            f"dcond: unknown command {words[0]!r}.{did_you_mean(words[0], COMMANDS)}\n\n"
            if words
            else ""
        )
        print(wrong + usage(), end="", file=sys.stderr)
        return 2
    if words[0] not in HYDRA_COMMANDS and under_torchrun():
        print(f"dcond: {words[0]} runs in one process; leave out torchrun.", file=sys.stderr)
        return 2
    return _run(words[0], words[1:])


def _run(command: str, words: list[str]) -> int:
    """Run a sub-command and turn what ends it into an exit status."""
    try:
        app = importlib.import_module(f"dcond.cli.{command}")
        code = int(app.main(words))
        sys.stdout.flush()  # here, where a broken pipe is known for what it is
        return code
    except DcondError as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        print(f"dcond: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("dcond: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (head, less) went away: nobody to tell
        from dcond.log import redirect_to_devnull

        redirect_to_devnull(sys.stdout)
        return 141
    except BaseException as error:
        signum = getattr(
            error, "signum", None
        )  # dcond.run.signals.Interrupted, without importing torch here
        if signum is None:
            raise
        return 128 + int(signum)


def _completion(words: list[str]) -> int:
    """Serve the shell's completion: sub-commands ourselves, the rest of the line by Hydra as if it were the command."""
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()[1:]
    command = typed[0] if typed else ""
    if any(word.startswith("query") for word in words):
        if command not in COMMANDS or (len(typed) == 1 and not line.endswith(" ")):
            print(" ".join(name for name in COMMANDS if name.startswith(command)))
            return 0
        if command not in HYDRA_COMMANDS:
            print(" ".join(_next_words(typed, line)))
            return 0
        program, _, rest = line.partition(command)
        os.environ["COMP_LINE"] = program + rest.lstrip()
    return _run(command if command in HYDRA_COMMANDS else "condense", words)


def _next_words(typed: list[str], line: str) -> list[str]:
    """Return what may come next after ``list`` and ``data``; the shell itself completes file names."""
    from dcond.cli.list import KINDS, entries
    from dcond.paths import conf_dir

    done, begun = (typed, "") if line.endswith(" ") else (typed[:-1], typed[-1])
    offered: list[str] = []
    if done == ["list"]:
        offered = list(KINDS)
    elif done == ["data"]:
        offered = ["prepare", "info"]
    elif done[:1] == ["data"] and len(done) == 2:
        offered = [entry.name for entry in entries(conf_dir() / "dataset")]
    return [word for word in offered if word.startswith(begun)]
