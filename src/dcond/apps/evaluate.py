"""``dcond evaluate``: train a pool of unlike networks on a synthetic set and test them."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from dcond.apps.choices import names
from dcond.apps.flags import paths
from dcond.apps.job import build, cache_folder, cpu_prepared, fetch, nearby, owned, reported, truth, whole_number
from dcond.apps.kept import OF_THE_EVALUATION, chosen, dataset_name, extras, learned_lr, maker, parts_of, plain, sizes
from dcond.apps.launch import hydra_main
from dcond.apps.protocol_name import name_changes
from dcond.apps.torchrun import leads
from dcond.apps.words import check_groups
from dcond.errors import ConfigError
from dcond.log import tell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dcond.imports.found import Found
    from dcond.imports.source import Source
    from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)

KEPT = ("seed", "synthetic", *OF_THE_EVALUATION)  # a data set's own network, which condenses, is not used


def main(argv: list[str]) -> int:
    """Run the sub-command with the words after it; without ``dataset=``, on the data set the artefact names."""
    words = []
    if leads():
        words = path_words(argv)
        check_groups(words, "evaluate")  # before the set is looked for: which it is may hang on such a word
        words += dataset_word(words)
    hydra_main(evaluate, "evaluate", words)
    return 0


def path_words(argv: list[str]) -> list[str]:
    """Return the words with ``synthetic=FILE`` as ``synthetic.path=FILE``, ``against`` too: beside it stand options.

    A word that is neither setting nor flag is the path of the set, as ``dcond export`` takes it.
    """
    words = [re.sub(r"^(synthetic|against)=(?!\{)", r"\1.path=", word) for word in argv]
    if any(re.match(r"\+*synthetic(\.path)?=", word) for word in words):
        return words
    for word in paths(words, "evaluate")[:1]:
        quoted = word.replace("'", r"\'")
        words[words.index(word)] = f"synthetic.path='{quoted}'"
    return words


def dataset_word(argv: list[str]) -> list[str]:
    """Return ``["dataset=NAME"]`` from the artefact's metadata where the words name an artefact but no data set.

    It must stand on the command line, since a data set brings its own default pool and protocol. Data of a user's go by
    the name they had when they were condensed.

    Raises:
        ArtefactError: the artefact cannot be read.
        ConfigError: it names a data set that is not packaged.
    """
    given = dict(word.split("=", 1) for word in argv if "=" in word)
    said = given.get("synthetic.path", "null")
    quoted = re.fullmatch("""(?P<mark>['"])(?P<path>.+)(?P=mark)""", said)
    if "dataset" in given or said in ("", "null") or ("," in said and quoted is None):
        return []
    from dcond import artefact
    from dcond.data.base import NAME
    from dcond.imports.source import is_artefact

    path = Path(quoted["path"].replace(r"\'", "'") if quoted else said).expanduser()
    if not is_artefact(path):
        raise ConfigError(f"{path} does not name the data set it was made from; say dataset=NAME.")
    metadata = artefact.load(path).metadata
    name = metadata.get("dataset", "")
    choice = metadata.get("dataset_choice", name)
    if choice not in names("dataset"):
        raise ConfigError(f"the artefact names the data set {choice!r}, which is not packaged; say dataset=NAME.")
    renamed = any(word.lstrip("+").startswith("dataset.name=") for word in argv)
    if choice == name or renamed or not re.fullmatch(NAME, name):  # anybody may have written it
        return [f"dataset={choice}"]
    return [f"dataset={choice}", f"dataset.name='{name}'"]


def evaluate(cfg: DictConfig) -> None:
    """Run one configuration in the folder Hydra made for it."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from dcond.apps import sweep
    from dcond.engine.signals import caught
    from dcond.report import result as results

    folder = Path(HydraConfig.get().runtime.output_dir)
    if not sweep.is_job():
        results.refuse_finished(folder)
    if OmegaConf.is_missing(cfg.synthetic, "path") or cfg.synthetic.path in (None, ""):
        raise ConfigError("say what to evaluate: dcond evaluate synthetic=FILE (or the run folder that holds it).")
    name = HydraConfig.get().runtime.choices.get("dataset")
    if name is None:
        raise ConfigError("where several artefacts are evaluated, say on what: dataset=NAME.")
    name_changes(cfg, HydraConfig.get().runtime.choices)
    result = _new_result(cfg, HydraConfig.get().runtime.choices)
    if sweep.is_job() and results.finished(folder) is not None:
        _given(cfg, result)
        sweep.finished_before(folder, result, evaluated=True)
        return
    with caught() as stop, owned(folder), reported(result, folder), stop.heard(), cpu_prepared(cfg):
        tables = _evaluate(cfg, name, result)
    tell(*tables, f"-> {nearby(folder)}")


def _evaluate(cfg: DictConfig, name: str, result: dict[str, Any]) -> "list[RenderableType]":
    """Evaluate a set on the data set that is chosen by this name; figures go into ``result``, tables are returned."""
    from dcond.apps.evaluation import Wanted, evaluate_with_baselines
    from dcond.engine.machine import forget_peak_memory, peak_memory_bytes, pick_device
    from dcond.engine.progress import said_if_slow
    from dcond.ranks import current

    seed = result["seed"] = whole_number(cfg, "seed", 0)
    baselines, full, unaugmented = (truth(cfg, key) for key in ("baselines", "scores.full", "scores.unaugmented"))
    device = pick_device(str(cfg.device))
    forget_peak_memory(device)
    pool, protocol = build(cfg.pool, "pool"), build(cfg.evaluation, "evaluation")
    given, rival = _given(cfg, result)  # before any data is read
    fetch(pool, protocol)
    dataset = build(cfg.dataset, f"dataset={name}")
    result |= {"dataset": dataset_name(cfg, name), "device": str(device)}
    result["cost"]["processes"] = current().count
    with said_if_slow(f"reading {result['dataset']}"), current().first_before_others():
        real = dataset.load(device)
    pool.check(real.spec)
    synthetic = given.fitted(real)
    result |= _described(given, synthetic)
    title = f"{result['method']} on {real.name}, {synthetic.ipc} image(s) per class"
    wanted = Wanted(
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
    from dcond.report import result as results

    numbers = parts_of(cfg, KEPT)
    return results.new(choices=chosen(numbers, choices), config=_settings(numbers))


def _settings(numbers: DictConfig) -> dict[str, Any]:
    """Return what the result keeps of the configuration: the parts there are, and how the set was to be read if told.

    Where the set lies says nothing of it, so a copy elsewhere is the same set.
    """
    settings = {name: part for name, part in plain(numbers).items() if part is not None}
    aside = ("_target_", "path", "method", "option")
    read = {name: value for name, value in settings.pop("synthetic").items() if name not in aside}
    told = {name: value for name, value in read.items() if value or (name, value) == ("normalised", False)}
    return settings | ({"synthetic": told} if told else {})


@dataclass(frozen=True)
class _Given:
    """A set as the command line names it, and what was read there: by that it is known, wherever it lies."""

    source: "Source"
    content: "SyntheticSet | Found"

    @classmethod
    def read(cls, cfg: DictConfig, option: str) -> "_Given":
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


def _given(cfg: DictConfig, result: dict[str, Any]) -> tuple[_Given, _Given | None]:
    """Read the set and the one to compare it with; ``result`` tells by them which configuration it is of."""
    from omegaconf import OmegaConf

    from dcond.report import result as results

    ours = _Given.read(cfg, "synthetic")
    theirs = None if cfg.against.path is None else _Given.read(cfg, "against")
    numbers, against = parts_of(cfg, KEPT), cfg.against.copy()
    numbers.synthetic.path, against.path = ours.hash, theirs and theirs.hash
    result["config_sha256"] = results.sha256(OmegaConf.to_yaml(numbers, sort_keys=True))
    rival = theirs and results.sha256(OmegaConf.to_yaml(against, sort_keys=True))[:16]
    result["extras"] = extras(cfg) | {"against": rival}
    return ours, theirs


def _described(given: _Given, synthetic: "SyntheticSet") -> dict[str, Any]:
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
            **maker(known),
        },
        "ipc": synthetic.ipc,
        **sizes(synthetic),
    }
