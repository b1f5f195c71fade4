"""Find and read ``result.json`` files; unreadable ones are reported and skipped."""

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dcond.errors import ConfigError
from dcond.report.record import RunRecord
from dcond.run.result import NAME, of_another_program

LOGS = ("condense.log", "evaluate.log")  # present from the start of a run
# A number, as ``str`` writes a float; not the parts of v1.10 or 2.11.0.
DECIMAL = r"(?<![A-Za-z\d.])\d+(?:\.\d+)?(?:e[+-]\d+)?(?![A-Za-z\d]|\.\d)"


@dataclass(frozen=True)
class CollectedRuns:
    """The runs below the given paths.

    Args:
        runs: records of all readable results.
        skipped: files that are not results, with the reason.
        unfinished: run folders without a result: running, killed, or refused before the run began.
    """

    runs: tuple[RunRecord, ...]
    skipped: tuple[tuple[Path, str], ...]
    unfinished: tuple[Path, ...]


def collect(paths: Iterable[Path]) -> CollectedRuns:
    """Read every ``result.json`` at or below the paths once, in natural order of the folders.

    Raises:
        ConfigError: a path does not exist, or there is no result below any.
    """
    paths = list(paths)
    runs, skipped, unfinished = [], [], []
    seen = set()
    for path in paths:
        problem = "" if path.exists() else "does not exist"
        if path.is_file() and path.name != NAME:
            problem = f"is not a {NAME}"
        if problem:
            raise ConfigError(f"{path} {problem}; pass run folders, sweeps, or folders above them.")
        for folder, has_result in _run_folders(path):
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            if not has_result:
                unfinished.append(folder)
                continue
            try:
                runs.append(RunRecord.read(folder))
            except (OSError, ValueError, OverflowError, RecursionError) as error:
                skipped.append((folder / NAME, _reason(error)))
    if not (runs or skipped or unfinished):
        raise ConfigError(
            f"no {NAME} below {', '.join(map(str, paths))}; a run writes it when it ends."
        )
    return CollectedRuns(tuple(runs), tuple(skipped), tuple(unfinished))


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return "not valid JSON, or incomplete"
    return str(getattr(error, "strerror", None) or error)


def _run_folders(path: Path) -> Iterator[tuple[Path, bool]]:
    """Yield run folders in natural order, and whether each has a result."""
    if path.is_file():
        yield path.parent, True
        return
    found, seen, roots = [], set(), [str(path)]
    for folder, folders, files in itertools.chain.from_iterable(map(os.walk, roots)):
        if (real := os.path.realpath(folder)) in seen:  # ignores folders that vanish meanwhile
            folders.clear()
            continue
        seen.add(real)
        links = sorted(os.path.join(folder, name) for name in folders if not name.startswith("."))
        roots += filter(os.path.islink, links)  # after all folders that are no links
        of_hydra = ".hydra" in folders and not of_another_program(Path(folder))
        if NAME in files or of_hydra or any(log in files for log in LOGS):
            found.append((Path(folder), NAME in files))
        folders[:] = [name for name in folders if not name.startswith(".")]
    yield from sorted(found, key=lambda each: natural(str(each[0])))


def natural(name: str) -> list[tuple[float, str]]:
    """Return a sort key: ``job10`` after ``job9``, ``lr=0.25`` before ``lr=0.5``.

    Parts of versions are compared as whole numbers: ``v1.10`` comes after ``v1.9``.
    """
    parts = re.split(rf"({DECIMAL}|\d+)", name)
    return [(_number(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]


def _number(digits: str) -> float:
    return int(digits) if digits.isdecimal() else float(digits)  # int: exact for any length
