"""``dcond evaluate``: train a pool of unlike networks on a synthetic set and test them."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from dcond.cli.hydra_app import hydra_main
from dcond.cli.instantiate import (
    build,
    cache_folder,
    cpu_threads,
    get_bool,
    get_int,
    locked_run_folder,
    prefetch_weights,
    relative_to_cwd,
    write_result_on_exit,
)
from dcond.cli.overrides import (
    check_overrides,
    group_options,
    positional_arguments,
    quote_path,
    quote_paths,
    unquote_path,
)
from dcond.cli.protocol_name import label_modified_protocol
from dcond.cli.run_config import (
    OF_THE_EVALUATION,
    dataset_name,
    extras,
    learned_lr,
    parse_provenance,
    parts_of,
    selected_options,
    storage_stats,
    to_jsonable,
)
from dcond.cli.torchrun import is_main_process
from dcond.errors import ConfigError
from dcond.log import print_results

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dcond.importers.raw_set import RawSet
    from dcond.importers.source import Source
    from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)

KEPT = (
    "seed",
    "synthetic",
    *OF_THE_EVALUATION,
)  # a data set's own network, which condenses, is not used


def main(argv: list[str]) -> int:
    """Run the sub-command with the words after it; without ``dataset=``, on the data set the artefact names."""
    words = []
    if is_main_process():
        words = quote_paths(expand_path_arguments(argv))
        if not {"-h", "--help"} & set(argv):
            check_overrides(words, "evaluate")  # before the set is read
            words += infer_dataset_override(words)
    hydra_main(evaluate, "evaluate", words)
    return 0


def expand_path_arguments(argv: list[str]) -> list[str]:
    """Return the words with ``synthetic=FILE`` as ``synthetic.path=FILE``, ``against`` too: beside it stand options.

    A word that is neither setting nor flag is the path of the set, as ``dcond export`` takes it.
    """
    words = [re.sub(r"^(synthetic|against)=(?!\{)", r"\1.path=", word) for word in argv]
    if any(re.match(r"\+*synthetic(\.path)?=", word) for word in words):
        return words
    for word in positional_arguments(words, "evaluate")[:1]:
        words[words.index(word)] = f"synthetic.path={quote_path(word)}"
    return words


def infer_dataset_override(argv: list[str]) -> list[str]:
    """Return ``["dataset=NAME"]`` from the artefact's metadata where the words name an artefact but no data set.

    It must stand on the command line, since a data set brings its own default pool and protocol.
    Data of a user's go by the name they had when they were condensed.

    Raises:
        ArtefactError: the artefact cannot be read.
        ConfigError: it names a data set that is not packaged.
    """
    given = dict(word.split("=", 1) for word in argv if "=" in word)
    said = given.get("synthetic.path", "null")
    if "dataset" in given or said in ("", "null") or unquote_path(said) == said:
        return []
    from dcond import artefact
    from dcond.data.base import NAME
    from dcond.importers.source import is_artefact

    path = Path(unquote_path(said)).expanduser()
    if not is_artefact(path):
        raise ConfigError(f"{path} does not name the data set it was made from; say dataset=NAME.")
    metadata = artefact.load(path).metadata
    name = metadata.get("dataset", "")
    choice = metadata.get("dataset_choice", name)
    if choice not in group_options("dataset"):
        raise ConfigError(
            f"the artefact names the data set {choice!r}, which is not packaged; say dataset=NAME."
        )
    renamed = any(word.lstrip("+").startswith("dataset.name=") for word in argv)
    if choice == name or renamed or not re.fullmatch(NAME, name):  # anybody may have written it
        return [f"dataset={choice}"]
    return [f"dataset={choice}", f"dataset.name='{name}'"]


def evaluate(cfg: DictConfig) -> None:
    """Run one configuration in the folder Hydra made for it."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from dcond.cli import sweep
    from dcond.run import result as results
    from dcond.run.signals import handle_signals

    folder = Path(HydraConfig.get().runtime.output_dir)
    if not sweep.is_job():
        results.refuse_finished(folder)
    if OmegaConf.is_missing(cfg.synthetic, "path") or cfg.synthetic.path in (None, ""):
        raise ConfigError(
            "say what to evaluate: dcond evaluate synthetic=FILE (or the run folder that holds it)."
        )
    name = HydraConfig.get().runtime.choices.get("dataset")
    if name is None:
        raise ConfigError("where several artefacts are evaluated, say on what: dataset=NAME.")
    label_modified_protocol(cfg, HydraConfig.get().runtime.choices)
    result = _new_result(cfg, HydraConfig.get().runtime.choices)
    if sweep.is_job() and results.finished(folder) is not None:
        _given(cfg, result)
        sweep.load_finished_job(folder, result, evaluated=True)
        return
    with (
        handle_signals() as stop,
        locked_run_folder(folder),
        write_result_on_exit(result, folder),
        stop.as_interrupted(),
        cpu_threads(cfg),
    ):
        tables = _evaluate(cfg, name, result)
    print_results(*tables, f"-> {relative_to_cwd(folder)}")


def _evaluate(cfg: DictConfig, name: str, result: dict[str, Any]) -> "list[RenderableType]":
    """Evaluate a set on the data set that is chosen by this name; figures go into ``result``, tables are returned."""
    from dcond.device import peak_memory_bytes, reset_peak_memory, resolve_device
    from dcond.distributed import current
    from dcond.run.evaluation import EvaluationPlan, evaluate_with_baselines
    from dcond.run.progress import log_if_slow

    seed = result["seed"] = get_int(cfg, "seed", 0)
    baselines, full, unaugmented = (
        get_bool(cfg, key) for key in ("baselines", "scores.full", "scores.unaugmented")
    )
    device = resolve_device(str(cfg.device))
    reset_peak_memory(device)
    pool, protocol = build(cfg.pool, "pool"), build(cfg.evaluation, "evaluation")
    given, rival = _given(cfg, result)  # before any data is read
    prefetch_weights(pool, protocol)
    dataset = build(cfg.dataset, f"dataset={name}")
    result |= {"dataset": dataset_name(cfg, name), "device": str(device)}
    result["cost"]["processes"] = current().count
    with log_if_slow(f"reading {result['dataset']}"), current().first_before_others():
        real = dataset.load(device)
    pool.check(real.spec)
    synthetic = given.fitted(real)
    result |= _described(given, synthetic)
    title = f"{result['method']} on {real.name}, {synthetic.ipc} image(s) per class"
    wanted = EvaluationPlan(
        baselines=baselines,
        full=full,
        unaugmented=unaugmented,
        cache=cache_folder(cfg),
        against=None if rival is None else rival.fitted(real).to(device),
        doubt=True,
    )
    tables = evaluate_with_baselines(
        protocol, pool, real, synthetic.to(device), seed, result, title=title, wanted=wanted
    )
    result["cost"]["peak_memory_bytes"] = peak_memory_bytes(device)
    return tables


def _new_result(cfg: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result as it begins, with what it keeps of the configuration."""
    from dcond.run import result as results

    numbers = parts_of(cfg, KEPT)
    return results.new(choices=selected_options(numbers, choices), config=_settings(numbers))


def _settings(numbers: DictConfig) -> dict[str, Any]:
    """Return what the result keeps of the configuration: the parts there are, and how the set was to be read if told.

    Where the set lies says nothing of it, so a copy elsewhere is the same set.
    """
    settings = {name: part for name, part in to_jsonable(numbers).items() if part is not None}
    aside = ("_target_", "path", "method", "option")
    read = {name: value for name, value in settings.pop("synthetic").items() if name not in aside}
    told = {
        name: value
        for name, value in read.items()
        if value or (name, value) == ("normalised", False)
    }
    return settings | ({"synthetic": told} if told else {})


@dataclass(frozen=True)
class LoadedSet:
    """A set as the command line names it, and what was read there: by that it is known, wherever it lies."""

    source: "Source"
    content: "SyntheticSet | RawSet"

    @classmethod
    def read(cls, cfg: DictConfig, option: str) -> "LoadedSet":
        """Read what ``synthetic`` or ``against`` names."""
        source = build(cfg[option], option)
        return cls(source, source.read())

    @cached_property
    def hash(self) -> str:
        """A short hash of images, labels and what the file says of how they are used."""
        from dcond.artefact import GUARDED, checksum

        said = {name: repr(getattr(self.content, name, None)) for name in GUARDED}
        tensors = {"images": self.content.images.detach(), "labels": self.content.labels.detach()}
        if whitening := getattr(self.content, "whitening", None):
            tensors |= {"zca_mean": whitening.mean, "zca_matrix": whitening.matrix}
        return checksum(said, tensors)[:16]

    def fitted(self, real: "RealData") -> "SyntheticSet":
        """Return it as dcond has it."""
        return self.source.fitted(self.content, real)


def _given(cfg: DictConfig, result: dict[str, Any]) -> tuple[LoadedSet, LoadedSet | None]:
    """Read the set and the one to compare it with; ``result`` tells by them which configuration it is of."""
    from omegaconf import OmegaConf

    from dcond.run import result as results

    ours = LoadedSet.read(cfg, "synthetic")
    theirs = None if cfg.against.path is None else LoadedSet.read(cfg, "against")
    numbers, against = parts_of(cfg, KEPT), cfg.against.copy()
    numbers.synthetic.path, against.path = ours.hash, theirs and theirs.hash
    result["config_sha256"] = results.sha256(OmegaConf.to_yaml(numbers, sort_keys=True))
    rival = theirs and results.sha256(OmegaConf.to_yaml(against, sort_keys=True))[:16]
    result["extras"] = extras(cfg) | {"against": rival}
    return ours, theirs


def _described(given: LoadedSet, synthetic: "SyntheticSet") -> dict[str, Any]:
    """Return the fields of ``result.json`` that say what the set is, where it came from and how it was read."""
    known = synthetic.metadata
    return {
        "method": known.get("method", "unknown"),
        "source": {
            "path": given.source.path,
            "content": given.hash,
            "layout": known.get("layout", "dcond"),
            "read_as": known.get("read_as", "pixels"),
            "learned_lr": learned_lr(known),
            **parse_provenance(known),
        },
        "ipc": synthetic.ipc,
        **storage_stats(synthetic),
    }
