"""Finding ``result.json`` files and reading them; what cannot be used is named, never a reason to stop."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dcond.errors import ConfigError
from dcond.report.record import RunRecord, read
from dcond.run.result import NAME

LOGS = ("condense.log", "evaluate.log")  # in a run folder from its first moment on
# A number by itself, as ``str`` writes a float; in ``v1.10`` and ``2.11.0`` the dot stands between
# whole numbers.
DECIMAL = r"(?<![A-Za-z\d.])\d+(?:\.\d+)?(?:e[+-]\d+)?(?![A-Za-z\d]|\.\d)"


@dataclass(frozen=True)
class CollectedRuns:
    """What lies under the given paths."""

    outcomes: tuple[RunRecord, ...]
    skipped: tuple[tuple[Path, str], ...]  # files that are no result, and why
    unfinished: tuple[Path, ...]  # run folders without a result: running, or killed


def collect(paths: Iterable[Path]) -> CollectedRuns:
    """Read every ``result.json`` at or under the paths, each once, in the order of their folders.

    Raises:
        ConfigError: a path does not exist, or nothing was found under any.
    """
    outcomes, skipped, unfinished = [], [], []
    given, seen = list(paths), set()
    for path in given:
        if not path.exists():
            raise ConfigError(
                f"{path} does not exist; give run folders, sweeps, or folders that hold them."
            )
        if path.is_file() and path.name != NAME:
            raise ConfigError(
                f"{path} is no {NAME}; give run folders, sweeps, or folders that hold them."
            )
        for folder, is_result in _folders(path):
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            try:
                if is_result:
                    outcomes.append(read(folder))
                else:
                    unfinished.append(folder)
            except (OSError, ValueError, OverflowError, RecursionError) as error:
                skipped.append((folder / NAME, _reason(error)))
    if not (outcomes or skipped or unfinished):
        raise ConfigError(
            f"no {NAME} under {', '.join(map(str, given))}; a run writes its own at its end."
        )
    return CollectedRuns(tuple(outcomes), tuple(skipped), tuple(unfinished))


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return "no JSON, or half of one"
    return str(getattr(error, "strerror", None) or error)


def _folders(path: Path) -> Iterator[tuple[Path, bool]]:
    """Yield run folders in natural order, and whether each has its result; folders may vanish meanwhile."""
    if path.is_file():
        yield path.parent, True
        return
    found = []
    for folder, folders, files in os.walk(path):
        if NAME in files or ".hydra" in folders or any(log in files for log in LOGS):
            found.append((Path(folder), NAME in files))
        folders[:] = [name for name in folders if not name.startswith(".")]
    yield from sorted(found, key=lambda each: natural(str(each[0])))


def natural(name: str) -> list[tuple[float, str]]:
    """Return a key that sorts ``job10`` after ``job9``, ``lr=0.25`` before ``lr=0.5`` and ``v1.10`` after ``v1.9``."""
    parts = re.split(rf"({DECIMAL}|\d+)", name)
    return [(_size(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]


def _size(digits: str) -> float:
    return (
        int(digits) if digits.isdecimal() else float(digits)
    )  # a whole number of any length keeps every digit
