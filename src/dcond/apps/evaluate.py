"""``dcond evaluate``: train a pool of unlike networks on a synthetic set and test them."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from dcond.apps.job import build, cache_folder, cpu_prepared, fetch, nearby, owned, reported, truth, whole_number
from dcond.apps.kept import OF_THE_EVALUATION, chosen, maker, parts_of, plain
from dcond.apps.launch import choices, hydra_main
from dcond.apps.several import leads
from dcond.errors import ConfigError
from dcond.log import tell
from dcond.paths import conf_dir

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dcond.types import SyntheticSet

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Run the sub-command with the words after it; without ``dataset=``, on the data set the artefact names."""
    words = path_words(argv)
    hydra_main(evaluate, "evaluate", words + dataset_word(words) if leads() else [])
    return 0


def path_words(argv: list[str]) -> list[str]:
    """Return the words with ``synthetic=FILE`` as ``synthetic.path=FILE``, ``against`` too: beside it stand options."""
    return [re.sub(r"^(synthetic|against)=(?!\{)", r"\1.path=", word) for word in argv]


def dataset_word(argv: list[str]) -> list[str]:
    """Return ``["dataset=NAME"]`` from the artefact's metadata where the words name an artefact but no data set.

    It must stand on the command line, since a data set brings its own default pool and protocol.

    Raises:
        ArtefactError: the artefact cannot be read.
        ConfigError: it names a data set that is not packaged.
    """
    given = dict(word.split("=", 1) for word in argv if "=" in word)
    if "dataset" in given or given.get("synthetic.path") in (None, "", "null") or "," in given["synthetic.path"]:
        return []
    from dcond import artefact
    from dcond.imports.source import is_artefact

    path = Path(given["synthetic.path"].strip("'\"")).expanduser()
    if not is_artefact(path):
        raise ConfigError(f"{path} does not name the data set it was made from; say dataset=NAME.")
    name = artefact.load(path).metadata.get("dataset", "")
    if name not in choices(conf_dir() / "dataset"):
        raise ConfigError(f"the artefact names the data set {name!r}, which is not packaged; say dataset=NAME.")
    return [f"dataset={name}"]


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
    result = _new_result(cfg, HydraConfig.get().runtime.choices)
    if sweep.is_job() and sweep.finished_before(folder, result["config_sha256"], evaluated=True) is not None:
        return
    with caught(), owned(folder), reported(result, folder), cpu_prepared(cfg):
        tables = _evaluate(cfg, name, result)
    tell(*tables, f"-> {nearby(folder)}")


def _evaluate(cfg: DictConfig, name: str, result: dict[str, Any]) -> "list[RenderableType]":
    """Evaluate a set on the data set of this name; all figures go into ``result``, the tables are returned."""
    from dcond.apps.evaluation import Wanted, evaluate_with_baselines
    from dcond.engine.machine import forget_peak_memory, peak_memory_bytes, pick_device
    from dcond.ranks import current

    seed = result["seed"] = whole_number(cfg, "seed", 0)
    baselines, full, unaugmented = (truth(cfg, key) for key in ("baselines", "scores.full", "scores.unaugmented"))
    device = pick_device(str(cfg.device))
    forget_peak_memory(device)
    pool, protocol = build(cfg.pool, "pool"), build(cfg.evaluation, "evaluation")
    fetch(pool, protocol)
    source = build(cfg.synthetic, "synthetic")
    other = None if cfg.against.path is None else build(cfg.against, "against")
    content, rival = source.read(), other and other.read()  # before any data is
    dataset = build(cfg.dataset, f"dataset={name}")
    result |= {"dataset": name, "device": str(device)}
    result["cost"]["processes"] = current().count
    with current().first_before_others():
        real = dataset.load(device)
    synthetic = source.fitted(content, real)
    result |= _described(source.path, synthetic)
    title = f"{result['method']} on {real.name}, {synthetic.ipc} image(s) per class"
    wanted = Wanted(
        baselines=baselines,
        full=full,
        unaugmented=unaugmented,
        cache=cache_folder(cfg),
        against=other and other.fitted(rival, real).to(device),
        doubt=True,
    )
    tables = evaluate_with_baselines(
        protocol, pool, real, synthetic.to(device), seed, result, title=title, wanted=wanted
    )
    result["cost"]["peak_memory_bytes"] = peak_memory_bytes(device)
    return tables


def _new_result(cfg: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result as it begins, with what it keeps of the configuration."""
    from omegaconf import OmegaConf

    from dcond.report import result as results

    kept = ("seed", "synthetic", *OF_THE_EVALUATION)  # a data set's own network, which condenses, is not used
    numbers = parts_of(cfg, kept)
    return results.new(
        config_sha256=results.sha256(OmegaConf.to_yaml(numbers, sort_keys=True)),
        choices=chosen(numbers, choices),
        config=_settings(numbers),
    )


def _settings(numbers: DictConfig) -> dict[str, Any]:
    """Return what the result keeps of the configuration: the parts there are, and how the set was to be read if told.

    Where the set lies says nothing of it, so a copy elsewhere is the same set.
    """
    settings = {name: part for name, part in plain(numbers).items() if part is not None}
    aside = ("_target_", "path", "method", "option")
    read = {name: value for name, value in settings.pop("synthetic").items() if name not in aside}
    told = {name: value for name, value in read.items() if value or (name, value) == ("normalised", False)}
    return settings | ({"synthetic": told} if told else {})


def _described(path: str, synthetic: "SyntheticSet") -> dict[str, Any]:
    """Return the fields of ``result.json`` that say what the set is, where it came from and how it was read."""
    known = synthetic.metadata
    rate = known.get("learned_lr")
    return {
        "method": known.get("method", "unknown"),
        "source": {
            "path": path,
            "layout": known.get("layout", "dcond"),
            "read_as": known.get("read_as", "pixels"),
            "learned_lr": None if rate is None else float(rate),
            **maker(known),
        },
        "ipc": synthetic.ipc,
        "factor": synthetic.factor,
        "images_stored": len(synthetic.images),
        "images_decoded": len(synthetic.images) * synthetic.factor**2,
        "bytes_stored": synthetic.images.numel() * synthetic.images.element_size(),
    }
