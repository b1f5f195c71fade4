"""Running a task under Hydra: the words are checked before, and what goes wrong is told in one line."""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcond.apps.several import run_together, several
from dcond.errors import ConfigError, DcondError, nearest
from dcond.paths import conf_dir

_CAN_BE_NONE = ("teacher", "tuned", "experiment", "sweep", "debug")
Task = Callable[[DictConfig], float | None]  # what it returns is for a sweeper


class _Fault(BaseException):
    """Carries a user's fault past Hydra, which would add lines of its own."""

    def __init__(self, error: DcondError):
        self.error = error


def hydra_main(task: Task, config_name: str, argv: list[str]) -> None:
    """Run a task under Hydra with the words after the sub-command, in all processes where there are several.

    Raises:
        DcondError: whatever was wrong with the words, the configuration, the run or the disk, in one line.
    """
    if several():
        run_together(task, lambda task: _hydra_main(task, config_name, argv), argv)
    else:
        _hydra_main(task, config_name, argv)


def _hydra_main(task: Task, config_name: str, argv: list[str]) -> None:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from dcond.apps.sweep import told_at_end

    check_choices(argv)
    # Hydra takes flags and settings in one block each: `ipc=1 -m seed=0,1` it would refuse.
    sys.argv = [sys.argv[0], *sorted(argv, key=_is_flag)]
    try:
        with told_at_end(), _hydra_raises(), _groups_listed_once():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(_translated(task))()
    except _Fault as fault:
        raise fault.error from fault.error.__cause__
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, DcondError):  # a job of a sweep
            raise error.__cause__ from None
        raise ConfigError(hydra_words(error)) from error
    except (OSError, ValueError) as error:  # Hydra could not make or fill the run folder
        if "Config group override" in str(error):
            raise ConfigError(hydra_words(error)) from error
        reason = error if isinstance(error, OSError) else error.__cause__  # of its log, logging says ValueError
        if not isinstance(reason, OSError):
            raise
        way_out = "Free some space or choose another folder with paths.outputs=FOLDER."
        raise DcondError(f"cannot write {reason.filename}: {reason.strerror}. {way_out}") from error


def _hydra_subdir(resume: str | None, folder: str | None) -> str | None:
    """Return where Hydra keeps its YAML files in a run folder: nowhere if that would overwrite those of a run."""
    from dcond.engine.claim import in_use
    from dcond.report import result as results

    kept = Path(folder or ".")
    begun = results.finished(kept) is not None or (kept / "checkpoint.pt").exists()  # the job itself says so
    return None if begun or resume or in_use(kept) else ".hydra"


# Here, and not when a command starts: the process of a job, too, must know them before it has anything else of dcond.
OmegaConf.register_new_resolver("dcond.run_dir", lambda resume, new: resume or new, replace=True)
OmegaConf.register_new_resolver("dcond.hydra_subdir", _hydra_subdir, replace=True)


@contextmanager
def _groups_listed_once() -> Iterator[None]:
    """Let Hydra list the choices for --help as it finds them; it would copy all it knows for each, a second in all."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.object_type import ObjectType

    listed = ConfigLoaderImpl.get_group_options

    def options(self: Any, group_name: str, results_filter: Any = ObjectType.CONFIG, *more: Any, **named: Any) -> Any:
        if more or named:  # a configuration may bring a search path of its own
            return listed(self, group_name, results_filter, *more, **named)
        return self.repository.get_group_options(group_name, results_filter)

    ConfigLoaderImpl.get_group_options = options  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.get_group_options = listed  # type: ignore[method-assign]


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Let Hydra raise what it would print: its own words for it run over several lines, or are a traceback."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def hydra_words(error: Exception) -> str:
    """Say in one line what Hydra or OmegaConf says in many; for an unknown key, add the nearest there is."""
    words = " ".join(str(error).partition("Config search path")[0].split())
    if words.startswith("Config group override"):
        return f"a part is chosen by a name: {words!r}."
    if isinstance(override := getattr(error, "override", None), str):
        return (
            f"{override!r} is no setting; write KEY=VALUE without spaces, in quotes where the value holds a comma, "
            "brackets or spaces: 'KEY=[A, B]'."
        )
    if several := re.match(r"Ambiguous value for argument '(.+?)' 1\. ", words):
        return f"{several[1]} names several values; add -m to run one after another, or write KEY=[A,B] for a list."
    cause = error.__cause__
    parent, key = getattr(cause, "parent_node", None), getattr(cause, "key", None)
    if isinstance(parent, DictConfig) and "hydra" in parent:  # the root: what a + would add there nothing reads
        words, _, append = words.partition(" To append to your config use +")
        if meant := _meant(parent, str(key), append.partition("=")[2]):
            return f"{key} is no setting here; {meant}."
    hint = nearest(str(key), map(str, parent)) if isinstance(parent, DictConfig) else ""
    plugin = re.match(r".*Could not find 'hydra/(?:launcher|sweeper)/([a-z]+)", words)
    if plugin is not None:
        extra = {"submitit": "slurm"}.get(plugin[1], plugin[1])
        hint = f" If its package is not installed: pip install 'dcond[{extra}]'."
    return f"{words.rstrip('.')}.{hint}"


def _meant(cfg: DictConfig, key: str, value: str) -> str:
    """Return which settings of parts have the name of one that there is not; empty where none has."""
    found = sorted(_places(OmegaConf.to_container(cfg), key), key=lambda place: place.count("."))
    found.sort(key=lambda place: not place.startswith("method."))  # the likeliest first
    if not found:
        return ""
    return f"{', '.join(found)} {'is' if len(found) == 1 else 'are'}: {found[0]}={value}"


def _places(node: Any, key: str) -> Iterator[str]:
    """Yield where a key stands in the parts of a configuration, by its full name."""
    for name, part in node.items():
        if not isinstance(part, dict) or name == "hydra":
            continue
        if key in part:
            yield f"{name}.{key}"
        yield from (f"{name}.{place}" for place in _places(part, key))


def check_added(cfg: DictConfig) -> None:
    """Raise :class:`ConfigError` for ``+KEY=VALUE`` that adds to the configuration what nothing in it reads."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser

    job = HydraConfig.get()
    primary = conf_dir() / f"{job.job.config_name}.yaml"
    if not primary.is_file():  # a user's own
        return
    base = OmegaConf.load(primary)
    parts = {str(group).split("@")[-1] for entry in base.defaults if isinstance(entry, DictConfig) for group in entry}
    text = OmegaConf.to_yaml(cfg) + OmegaConf.to_yaml(job)
    words: Any = OmegaConf.to_container(job.overrides.task)
    for word in OverridesParser.create().parse_overrides(words):
        key = word.key_or_group
        if not (word.is_add() or word.is_force_add()) or word.package or "/" in key or key in job.runtime.choices:
            continue
        top = key.split(".")[0]
        if top in parts or top in base or re.search(rf"\$\{{[^}}]*\b{re.escape(top)}\b", text):
            continue
        way_out = _meant(cfg, top, word.get_value_string())
        raise ConfigError(f"{top} is no setting here; {way_out or 'nothing reads it; leave the word out'}.")


def _translated(task: Task) -> Task:
    """Take a user's fault past Hydra; in a sweep tell any fault at once and hand it to Hydra, which goes on."""

    @functools.wraps(task)
    def run(cfg: DictConfig) -> float | None:
        from omegaconf.errors import OmegaConfBaseException

        from dcond.apps import sweep

        try:
            try:
                check_added(cfg)
                return task(cfg)
            except OmegaConfBaseException as error:
                raise ConfigError(hydra_words(error)) from error
        except Exception as error:
            if not sweep.is_job():
                if isinstance(error, DcondError):
                    raise _Fault(error) from error
                raise
            words = str(error) if isinstance(error, DcondError) else f"{type(error).__name__}: {error}"
            print(f"dcond: {words}", file=sys.stderr)
            raise sweep.JobError(words) from error

    return run


def _is_flag(word: str) -> bool:
    """Tell whether a word is a flag, or a flag's value, rather than a setting."""
    return word.startswith("-") or not (word.startswith("~") or "=" in word)


def check_choices(argv: list[str]) -> None:
    """Raise :class:`ConfigError` for ``group=name`` where the group has no such file, and suggest the nearest.

    Hydra refuses such a word too, but without a suggestion. A sweep's lists are checked word by word; anything cleverer
    is left to Hydra, and so is all of it where own folders of configs are given.
    """
    check_named(argv)
    if any(word.startswith(("--config-dir", "-cd", "--config-path", "-cp", "hydra.searchpath")) for word in argv):
        return
    for word in argv:
        key, _, value = word.partition("=")
        group = key.removeprefix("+").partition("@")[0]  # pool@learners takes the names of pool
        folder = conf_dir() / group
        if word.startswith("-") or not value or not group.isidentifier() or not folder.is_dir():
            continue
        names = choices(folder)
        for name in value.split(","):
            if name.replace("_", "").replace("-", "").replace("/", "").isalnum() and name not in names:
                none = name == "null" and group in _CAN_BE_NONE
                hint = f" For none, leave the word out, or write ~{group}." if none else nearest(name, names)
                raise ConfigError(f"{group}={name!r} is unknown; allowed: {', '.join(names)}.{hint}")


def check_named(argv: list[str]) -> None:
    """Raise :class:`ConfigError` for a word without a name before its ``=``, such as ``=3`` and ``+=``."""
    for word in argv:
        if re.match(r"[+~]*=", word):
            raise ConfigError(f"{word!r} names no setting; write KEY=VALUE without a space.")


def choices(folder: Path) -> list[str]:
    """Return the names that a config group offers, sub-folders included."""
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
