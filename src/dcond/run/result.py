"""The result of a run: a typed record that writes and reads ``result.json``.

A field without a value is null in the file. Accuracies are fractions.
"""

import hashlib
import json
import platform
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError

import dcond
from dcond.errors import ConfigError
from dcond.evaluation.results import Difference, EvalResult
from dcond.paths import write_text

NAME = "result.json"
UNFINISHED = "unfinished_evaluation"  # sub-folder: results of the networks that have finished
CHECKPOINT = "checkpoint.pt"  # named here, since run.checkpoint imports torch
TEST, HELD_OUT = "test", "held_out"  # the images that accuracies are taken on
ACCURACY = {TEST: "test accuracy", HELD_OUT: "held-out accuracy"}
# Groups of settings that are equal in comparable runs; of these, the data set also makes the set.
EVALUATION_GROUPS = ("dataset", "pool", "evaluation", "teacher")
NO_EFFECT_IN_PROTOCOL = ("test_batch", "stack", "best_every")  # on the last epoch's accuracy
# Settings that are places of one machine, and values that its environment or clock decides.
PLACE = re.compile(r"(path|weights|checkpoint|data_dir|folder|cache|url)$")
OF_ENVIRONMENT = re.compile(r"\$\{(oc\.env|now):")
PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "hydra-core")


@dataclass(kw_only=True)
class Cost:
    """What a run took: seconds (``_s``), bytes, steps, processes."""

    start_wall_s: float | None = None  # choosing the initial images, preparing the method
    condense_wall_s: float | None = None
    steps: int | None = None
    step_s_median: float | None = None
    evaluate_wall_s: float | None = None
    peak_memory_bytes: int | None = None
    processes: int | None = None


@dataclass(kw_only=True)
class Origin:
    """Where an evaluated set came from, how it was read, and the run that made it.

    ``content`` is a hash of what the file holds; ``seed`` to ``config`` are those of the run that
    made the set, null where the file does not record them.
    """

    path: str | None = None
    content: str | None = None
    layout: str | None = None
    read_as: str | None = None
    learned_lr: float | None = None
    seed: int | None = None
    config_sha256: str | None = None
    choices: dict[str, Any] | None = None
    config: dict[str, Any] | None = None


@dataclass(kw_only=True)
class Baselines:
    """The same protocol on real images: ``random`` ipc per class, ``random_decoded`` ipc · factor²
    shrunken ones in the same storage, ``full`` the whole training set.
    """  # noqa: D205

    random: EvalResult | None = None
    random_decoded: EvalResult | None = None
    full: EvalResult | None = None


@dataclass(kw_only=True)
class AgainstResult:
    """Paired differences between the set and another one, on networks that start alike."""

    against: str
    ipc: int
    factor: int
    evaluation: EvalResult
    networks: dict[str, Difference]
    average: Difference


@dataclass(kw_only=True)
class RunResult:
    """Everything a run reports; the fields are those of ``result.json``, in their order."""

    status: Literal["done", "failed", "interrupted"] = "failed"
    error: str | None = None
    method: str | None = None
    dataset: str | None = None
    ipc: int | None = None
    factor: int | None = None
    seed: int | None = None
    source: Origin | None = None
    device: str | None = None
    config_sha256: str | None = None
    choices: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    extras: dict[str, Any] | None = None
    git_commit: str | None = None
    versions: dict[str, str | None] | None = None
    images_stored: int | None = None
    images_decoded: int | None = None
    bytes_stored: int | None = None
    cost: Cost = field(default_factory=Cost)
    normalisation: str | None = None
    evaluation: EvalResult | None = None
    baselines: Baselines = field(default_factory=Baselines)
    scores: dict[str, Any] | None = None
    score_inputs: dict[str, EvalResult] | None = None
    comparison: AgainstResult | None = None

    @classmethod
    def start(cls, **known: Any) -> Self:
        """Return the result of a run that begins now, with the versions and commit in use."""
        return cls(git_commit=git_commit(), versions=installed_versions(), **known)

    def made_with(self) -> str:
        """Return the settings that made the set as JSON, for its metadata."""
        choices = self.choices or {}
        return json.dumps(
            {
                "choices": {key: choices[key] for key in choices if key not in EVALUATION_GROUPS},
                "config": set_settings(self.config or {}),
            }
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the object of ``result.json``."""
        content: dict[str, Any] = json.loads(json.dumps(self, default=_plain))
        return content

    def write(self, folder: Path) -> None:
        """Write ``result.json`` into a run folder, atomically."""
        text = json.dumps(self, default=_plain, indent=2, allow_nan=False) + "\n"
        write_text(folder / NAME, text)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the ``result.json`` of a run folder.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not JSON, or not a result of dcond; one line.
        """
        raw = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if not _is_result(raw):
            raise ValueError("not a result of dcond")
        try:
            result: Self = _reader(cls).validate_python(raw)  # type: ignore[arg-type]
            return result
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise ValueError(f"not a result of dcond: {key}: {first['msg']}") from None

    @classmethod
    def read_finished(cls, folder: Path) -> Self | None:
        """Return the result in a folder if it is that of a finished run.

        One that says so and cannot be read in full (of another version, say) counts as finished,
        without its fields.
        """
        raw = _raw(folder)
        if not isinstance(raw, dict) or raw.get("status") != "done":
            return None
        try:
            return cls.read(folder)
        except ValueError:
            return cls(status="done")

    @classmethod
    def refuse_finished(cls, folder: Path) -> None:
        """Raise :class:`ConfigError` if the folder holds a finished run: none is overwritten."""
        if cls.read_finished(folder) is not None:
            raise ConfigError(
                f"{folder} holds a finished run, which is never overwritten; choose another folder."
            )

    @classmethod
    def refuse_foreign(cls, folder: Path) -> None:
        """Raise :class:`ConfigError` if the folder holds a ``result.json`` of another program."""
        raw = _raw(folder)
        if raw is not None and not _is_result(raw):
            raise ConfigError(
                f"{folder / NAME} is not a result of dcond and is not overwritten; choose another "
                "folder."
            )


def of_another_program(folder: Path) -> bool:
    """Return whether another program's Hydra made a folder: ``outputs/`` is its default place.

    The files of a run of dcond name it, also with a primary configuration of the user.
    """
    try:
        text = (folder / ".hydra" / "hydra.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    ours = re.search(r"dcond|^    config_name: (condense|evaluate)$", text, re.MULTILINE)
    return ours is None


def _raw(folder: Path) -> Any:
    """Return what a folder's ``result.json`` holds; None where there is none, or a damaged one."""
    try:
        return json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _is_result(raw: object) -> bool:
    return isinstance(raw, dict) and {"status", "method"} <= raw.keys()


_reader = cache(TypeAdapter)


def _plain(record: Any) -> Any:
    """Return a record as a dict, for ``json.dumps``."""
    return record.as_dict() if isinstance(record, EvalResult | Difference) else vars(record)


def set_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that make a set: not those of its evaluation, nor where its data are."""
    own = {
        name: part
        for name, part in config.items()
        if name == "dataset" or name not in EVALUATION_GROUPS
    }
    if isinstance(data := own.get("dataset"), dict):
        places = ("path", "data_dir", "keep", "classes")  # the artefact itself has the classes
        own["dataset"] = {name: value for name, value in data.items() if name not in places}
    return own


def flat_settings(
    config: dict[str, Any], prefix: str = ""
) -> dict[str, str | int | float | bool | None]:
    """Return nested settings by their dotted names, as the command line spells them.

    Lists and empty mappings become JSON text.
    """
    flat: dict[str, str | int | float | bool | None] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flat_settings(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, dict | list) else value
    return flat


def sha256(text: str) -> str:
    """Return the SHA-256 (hex) of a configuration's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def installed_versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that could change a number."""
    ours = dcond.__version__  # of this code, whatever is installed
    versions: dict[str, str | None] = {"python": platform.python_version(), "dcond": ours}
    versions |= dict.fromkeys(PACKAGES)
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # in a bundle, say
            versions[package] = version(package)
    return versions


def git_commit() -> str | None:
    """Return the commit of the checkout that this code runs from; ``+changes`` if it was edited.

    None outside of a checkout.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        edited = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if edited else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "--no-optional-locks", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()
