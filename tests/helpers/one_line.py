"""Check of any command line: success, or an error of one line and no partial files."""

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from dcond.cli import main as cli
from helpers.tidying import tidied


def called(
    arguments: Sequence[str], fill: Callable[[Path], None], before_the_work: bool = True
) -> int:
    """Call the command in a temporary folder, check the outcome, and return its exit status.

    Args:
        arguments: The arguments.
        fill: Creates the content of the folder.
        before_the_work: Whether an error must come before a set is written; otherwise a complete
            set may exist, whose evaluation failed.
    """
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), tidied():
        fill(Path(folder))
        there = {path.name for path in Path(folder).iterdir()}
        sys.argv = ["dcond", *arguments]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = cli.main(list(arguments))
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.argv = before
        lines = err.getvalue().splitlines()
        assert code in (0, 1, 2), (arguments, lines)
        assert "Traceback" not in err.getvalue(), (arguments, err.getvalue())
        if code == 1:
            assert [line for line in lines if line.startswith("dcond: ")] == lines[-1:], (
                arguments,
                lines,
            )
            assert [path.name for path in Path(folder).rglob(".*") if path.is_file()] == [], (
                arguments
            )
            new = [path for path in Path(folder).iterdir() if path.name not in there]
            made = [path for path in new for _ in path.rglob("synthetic.safetensors")]
            assert not (before_the_work and made), arguments
    return int(code)
