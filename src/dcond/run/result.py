"""``result.json``: one object per run, written whole or not at all; figures that do not exist are null."""

import hashlib
import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dcond.errors import ConfigError
from dcond.paths import write_atomically

NAME = "result.json"
TEST, HELD_OUT = (
    "test",
    "held_out",
)  # what accuracies are taken on, as test_on=... and evaluation.tested_on say
ACCURACY = {TEST: "test accuracy", HELD_OUT: "held-out accuracy"}


def new(**known: Any) -> dict[str, Any]:
    """Return a result with every field of the contract, null where ``known`` does not say."""
    result: dict[str, Any] = {
        "status": "failed",
        "error": None,
        "method": None,
        "dataset": None,
        "ipc": None,
        "factor": None,
        "seed": None,
        "source": None,
        "device": None,
        "config_sha256": None,
        "choices": None,
        "config": None,
        "extras": None,
        "git_commit": git_commit(),
        "versions": versions(),
        "images_stored": None,
        "images_decoded": None,
        "bytes_stored": None,
        "cost": {
            "start_wall_s": None,
            "condense_wall_s": None,
            "steps": None,
            "step_s_median": None,
            "evaluate_wall_s": None,
            "peak_memory_bytes": None,
            "processes": None,
        },
        "normalisation": None,
        "evaluation": None,
        "baselines": {"random": None, "random_decoded": None, "full": None},
        "scores": None,
        "score_inputs": None,
        "comparison": None,
    }
    return result | known


def write(result: dict[str, Any], folder: Path) -> None:
    """Write ``result.json`` into a run folder."""
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"

    def fill(file: Path) -> None:
        file.write_text(text, encoding="utf-8")

    write_atomically(folder / NAME, fill)


def finished(folder: Path) -> dict[str, Any] | None:
    """Return the result in a folder if it is that of a finished run."""
    try:
        found: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return found if found["status"] == "done" else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def refuse_finished(folder: Path) -> None:
    """Raise :class:`ConfigError` if the folder already holds a finished result: it is never overwritten."""
    if finished(folder) is not None:
        raise ConfigError(
            f"{folder} holds a finished run, which is never overwritten; choose another folder."
        )


def forget_unfinished(folder: Path) -> None:
    """Remove what an earlier start said of itself when it was stopped: from here on, the run is running."""
    if finished(folder) is None:
        (folder / NAME).unlink(missing_ok=True)


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, str | int | float | bool | None]:
    """Return the values of nested settings by their dotted names, as the command line calls them; lists as text."""
    found: dict[str, str | int | float | bool | None] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, dict | list) else value
    return found


def sha256(text: str) -> str:
    """Return the hash that names a configuration."""
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str | None]:
    """Return the versions that could change a number."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("dcond", "torch", "torchvision", "timm", "numpy", "scikit-learn", "hydra-core"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def git_commit() -> str | None:
    """Return the commit of the checkout this code runs from, with ``+changes`` if it was edited; null elsewhere."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + (
            "+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "--no-optional-locks", *words],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()
