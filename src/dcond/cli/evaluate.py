"""``dcond evaluate`` and ``dcond.evaluate``: train a pool of networks on a set and test them."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from dcond.cli import sweep
from dcond.cli.compose import composed, one_at_a_time, write_hydra_files
from dcond.cli.hydra_app import hydra_main
from dcond.cli.overrides import (
    check_overrides,
    group_options,
    positional_arguments,
    quote_path,
    quote_paths,
    unquote_path,
)
from dcond.cli.run_config import (
    CONDENSING_ONLY,
    NO_EFFECT,
    config_hash,
    dataset_name,
    label_modified_protocol,
    learned_lr,
    parse_classes,
    parse_provenance,
    requested_extras,
    result_affecting_config,
    selected_options,
    to_jsonable,
)
from dcond.cli.torchrun import is_main_process
from dcond.errors import ConfigError
from dcond.log import print_results
from dcond.paths import relative_to_cwd

if TYPE_CHECKING:  # torch takes seconds to import, and --help does not need it
    from dcond.importers.raw_set import RawSet
    from dcond.importers.source import Source
    from dcond.run.evaluation import Evaluated
    from dcond.run.result import RunResult
    from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)

IN_MEMORY = "a set in memory"
# How a set was read does not depend on where it is, on its name, or on which argument gave it.
_NOT_READING = ("_target_", "path", "method", "option")


def main(argv: list[str]) -> int:
    """Run the sub-command with its arguments; without ``dataset=`` on the artefact's data set."""
    overrides = []
    if is_main_process():
        overrides = quote_paths(expand_path_arguments(argv))
        if not {"-h", "--help"} & set(argv):
            check_overrides(overrides, "evaluate")  # before the set is read
            overrides += infer_dataset_override(overrides)
    hydra_main(run_job, "evaluate", overrides)
    return 0


def evaluate(
    synthetic: "SyntheticSet | Path | str",
    dataset: str | None = None,
    pool: str | None = None,
    seed: int | None = None,
    *,
    against: "SyntheticSet | Path | str | None" = None,
    overrides: Sequence[str] = (),
    folder: Path | str | None = None,
    progress: bool = True,
) -> "Evaluated":
    """Evaluate a set as ``dcond evaluate`` does.

    Args:
        synthetic: a set, or the path of an artefact, a run folder, or a public layout.
        dataset: option of the group ``dataset``; that of the set's metadata if None.
        pool: option of the group ``pool``; the data set's default if None.
        seed: of the networks and of the random baselines.
        against: another set to compare with, on networks that start alike.
        overrides: further settings, as on the command line.
        folder: gets ``result.json`` and the configuration; None writes none.
        progress: show a progress bar on a terminal, log lines elsewhere.

    Raises:
        DcondError: a wrong setting, an unusable set, data that does not fit; one line.

    Example:
        >>> evaluated = dcond.evaluate("outputs/condense/RUN", pool="tiny")
        >>> evaluated.result.evaluation.networks["mlp"].mean
    """
    from dcond.run.context import locked_run_folder, write_result_on_exit

    named = {"dataset": dataset, "pool": pool, "seed": seed}
    arguments = [f"{key}={value}" for key, value in named.items() if value is not None]
    arguments += [f"synthetic.path={_path(synthetic)}"]
    if against is not None:
        arguments += [f"against.path={_path(against)}"]
    arguments += overrides
    if not any(argument.startswith("dataset=") for argument in arguments):
        arguments += _dataset_override(_metadata(synthetic), arguments)
    folder = None if folder is None else Path(folder)
    with composed("evaluate", arguments) as (cfg, choices):
        label_modified_protocol(cfg, choices, config_name="evaluate")
    result = new_result(cfg, choices)
    sets = {"synthetic": synthetic, "against": against}

    def run() -> "Evaluated":
        loaded = {
            option: LoadedSet.read(cfg, option, given)
            for option, given in sets.items()
            if given is not None
        }
        return _evaluate(cfg, choices, result, loaded, show_progress=progress)

    with one_at_a_time:
        if folder is None:
            evaluated = run()
            result.status = "done"
            return evaluated
        folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time, locked_run_folder(folder), write_result_on_exit(result, folder):
        write_hydra_files(folder, cfg, arguments)
        return run()


def run_job(cfg: DictConfig) -> None:
    """Run one configuration in the folder that Hydra made for it."""
    from dcond.cli.instantiate import get
    from dcond.run.context import cpu_threads, locked_run_folder, write_result_on_exit
    from dcond.run.result import RunResult
    from dcond.run.signals import handle_signals
    from dcond.settings import PositiveInt

    hydra_cfg = HydraConfig.get()
    folder, choices = Path(hydra_cfg.runtime.output_dir), dict(hydra_cfg.runtime.choices)
    if not sweep.is_job():
        RunResult.refuse_finished(folder)
    if OmegaConf.is_missing(cfg.synthetic, "path") or cfg.synthetic.path in (None, ""):
        raise ConfigError("no set to evaluate; give one: dcond evaluate FILE_OR_RUN_FOLDER.")
    if choices.get("dataset") is None:
        raise ConfigError("several artefacts are evaluated on one data set; add dataset=NAME.")
    label_modified_protocol(
        cfg,
        choices,
        config_name=str(hydra_cfg.job.config_name),
        searchpath=sweep.searchpath_overrides(),
    )
    result = new_result(cfg, choices)
    if sweep.is_job() and RunResult.read_finished(folder) is not None:
        _identify(cfg, result, _read_sets(cfg))
        sweep.load_finished_job(folder, result, evaluated=True)
        return
    with (
        handle_signals() as stop,
        locked_run_folder(folder),
        write_result_on_exit(result, folder),
        stop.as_interrupted(),
    ):
        threads = get(cfg, "threads", PositiveInt | None)
        with cpu_threads(sweep.threads() if threads is None else threads):
            evaluated = _evaluate(cfg, choices, result, None)
    print_results(*evaluated.parts, f"-> {relative_to_cwd(folder)}")


def new_result(cfg: DictConfig, choices: dict[str, Any]) -> "RunResult":
    """Return the result of an evaluation as it starts, with its choices and settings."""
    from dcond.run.result import RunResult

    affecting = result_affecting_config(cfg, aside=NO_EFFECT | CONDENSING_ONLY)
    settings = {key: part for key, part in to_jsonable(affecting).items() if part is not None}
    # Recorded of the set: how it was read, where that was given.
    reading = {
        key: value
        for key, value in settings.pop("synthetic").items()
        if key not in _NOT_READING and (value or (key, value) == ("normalised", False))
    }
    if reading:
        settings["synthetic"] = reading
    options = selected_options(affecting, choices)
    options.pop("synthetic", None)  # a group with one option
    return RunResult.start(choices=options, config=settings)


def _evaluate(
    cfg: DictConfig,
    choices: dict[str, Any],
    result: "RunResult",
    loaded: "dict[str, LoadedSet] | None",
    *,
    show_progress: bool = True,
) -> "Evaluated":
    """Evaluate a set on the chosen data set, and complete the result.

    Args:
        cfg: the composed configuration.
        choices: the chosen option of every config group.
        result: as it starts.
        loaded: the set and the one to compare with; read as ``cfg`` says if None.
        show_progress: show a progress bar or log lines.
    """
    from dcond.cli.instantiate import build, build_plan, get, prefetch_weights
    from dcond.device import peak_memory_bytes, reset_peak_memory, resolve_device
    from dcond.distributed import current
    from dcond.run.condensation import storage_stats
    from dcond.run.evaluation import Evaluator
    from dcond.run.progress import log_if_slow
    from dcond.settings import NonNegativeInt

    result.seed = get(cfg, "seed", NonNegativeInt)
    device = resolve_device(str(cfg.device))
    reset_peak_memory(device)
    plan = build_plan(cfg, choices, sanity_checks=True)
    loaded = _read_sets(cfg) if loaded is None else loaded
    _identify(cfg, result, loaded)
    prefetch_weights(plan.pool, plan.protocol)
    name = choices["dataset"]
    dataset = build(cfg.dataset, f"dataset={name}")
    result.dataset, result.device = dataset_name(cfg, name), str(device)
    result.cost.processes = current().count
    with log_if_slow(f"reading {result.dataset}"), current().first_before_others():
        real = dataset.load(device)
    result.dataset = real.name
    synthetic = loaded["synthetic"].fitted(real)
    result.method = synthetic.metadata.get("method", "unknown")
    result.source, result.ipc = loaded["synthetic"].origin(synthetic), synthetic.ipc
    for key, value in storage_stats(synthetic).items():
        setattr(result, key, value)
    if "against" in loaded:
        plan = plan.with_against(loaded["against"].fitted(real).to(device))
    title = f"{result.method} on {real.name}, {synthetic.ipc} image(s) per class"
    evaluator = Evaluator(plan, real, show_progress=show_progress)
    evaluated = evaluator.evaluate(synthetic.to(device), result, title=title)
    result.cost.peak_memory_bytes = peak_memory_bytes(device)
    return evaluated


@dataclass(frozen=True)
class LoadedSet:
    """A set and how it was read. Its content identifies it, wherever the file is."""

    source: "Source"
    content: "SyntheticSet | RawSet"

    @classmethod
    def read(cls, cfg: DictConfig, option: str, given: Any = None) -> "LoadedSet":
        """Read what ``synthetic`` or ``against`` names; a set in memory is taken as it is."""
        from dcond.cli.instantiate import build
        from dcond.types import SyntheticSet

        source = build(cfg[option], option)
        return cls(source, given if isinstance(given, SyntheticSet) else source.read())

    @cached_property
    def hash(self) -> str:
        """A short hash of images, labels and the metadata that decides how they are used."""
        from dcond.artefact import GUARDED, LABELS, checksum

        metadata = {name: repr(getattr(self.content, name, None)) for name in GUARDED}
        if getattr(self.content, "logits", False):
            metadata[LABELS] = "logits"
        tensors = {"images": self.content.images.detach(), "labels": self.content.labels.detach()}
        if whitening := getattr(self.content, "whitening", None):
            tensors |= {"zca_mean": whitening.mean, "zca_matrix": whitening.matrix}
        return checksum(metadata, {name: each.cpu() for name, each in tensors.items()})[:16]

    def fitted(self, real: "RealData") -> "SyntheticSet":
        """Return the set for a data set: pixels, class-major, in its order of classes."""
        return self.source.fitted(self.content, real)

    def origin(self, synthetic: "SyntheticSet") -> Any:
        """Return where the set came from, how it was read, and the run that made it."""
        from dcond.run.result import Origin

        metadata = synthetic.metadata
        return Origin(
            path=self.source.path,
            content=self.hash,
            layout=metadata.get("layout", "dcond"),
            read_as=metadata.get("read_as", "pixels"),
            learned_lr=learned_lr(metadata),
            **parse_provenance(metadata),
        )


def _read_sets(cfg: DictConfig) -> dict[str, LoadedSet]:
    options = ["synthetic", *([] if cfg.against.path is None else ["against"])]
    return {option: LoadedSet.read(cfg, option) for option in options}


def _identify(cfg: DictConfig, result: "RunResult", loaded: dict[str, LoadedSet]) -> None:
    """Give a result the hash of its configuration, in which sets stand by their content."""
    affecting = result_affecting_config(cfg, aside=NO_EFFECT | CONDENSING_ONLY)
    affecting.synthetic.path = loaded["synthetic"].hash
    result.config_sha256 = config_hash(affecting)
    rival = None
    if "against" in loaded:
        against = cfg.against.copy()
        against.path = loaded["against"].hash
        rival = config_hash(against)[:16]
    result.extras = requested_extras(cfg) | {"against": rival}


def expand_path_arguments(argv: list[str]) -> list[str]:
    """Rewrite ``synthetic=FILE`` and ``against=FILE`` to their ``.path`` form.

    A positional argument is the path of the set.
    """
    arguments = [re.sub(r"^(synthetic|against)=(?!\{)", r"\1.path=", argument) for argument in argv]
    if any(re.match(r"\+*synthetic(\.path)?=", argument) for argument in arguments):
        return arguments
    for argument in positional_arguments(arguments, "evaluate")[:1]:
        arguments[arguments.index(argument)] = f"synthetic.path={quote_path(argument)}"
    return arguments


def infer_dataset_override(argv: list[str]) -> list[str]:
    """Return ``["dataset=NAME"]`` from the artefact's metadata if the arguments name no data set.

    It must be an override, since a data set brings its default pool and protocol. A user's own data
    keeps the name that it had when it was condensed.

    Raises:
        ArtefactError: the artefact cannot be read.
        ConfigError: its data set is not packaged.
    """
    given = dict(argument.split("=", 1) for argument in argv if "=" in argument)
    path = given.get("synthetic.path", "null")
    several = unquote_path(path) == path  # a single path is quoted
    if "dataset" in given or path in ("", "null") or several:
        return []
    return _dataset_override(_metadata(unquote_path(path)), argv)


def _metadata(synthetic: "SyntheticSet | Path | str") -> dict[str, str]:
    """Return the metadata of a set, or of the artefact at a path."""
    from dcond import artefact
    from dcond.importers.source import is_artefact
    from dcond.types import SyntheticSet

    if isinstance(synthetic, SyntheticSet):
        return synthetic.metadata
    path = Path(synthetic).expanduser()
    if not is_artefact(path):
        raise ConfigError(f"{path} does not name the data set it was made from; add dataset=NAME.")
    return artefact.load(path).metadata


def _dataset_override(metadata: dict[str, str], argv: list[str]) -> list[str]:
    from dcond.data.base import NAME

    name = metadata.get("dataset", "")
    choice = metadata.get("dataset_choice", name)
    if choice not in group_options("dataset"):
        raise ConfigError(
            f"the set was made from the data set {choice!r}, which is not packaged; add "
            "dataset=NAME."
        )
    overrides, given = [f"dataset={choice}"], [argument.lstrip("+") for argument in argv]
    # The file may come from anywhere.
    named = any(argument.startswith("dataset.name=") for argument in given)
    if choice != name and not named and re.fullmatch(NAME, name):
        overrides.append(f"dataset.name='{name}'")
    classes = parse_classes(metadata)
    if classes and not any(argument.startswith("dataset.classes=") for argument in given):
        overrides.append(f"dataset.classes=[{','.join(map(quote_path, classes))}]")
    return overrides


def _path(given: "SyntheticSet | Path | str") -> str:
    return quote_path(str(given) if isinstance(given, str | Path) else IN_MEMORY)
