"""The job of ``dcond evaluate``, and ``dcond.evaluate``: train a pool on a set and test it."""

import logging
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from dcond.cli import sweep
from dcond.cli.compose import composed, python_overrides, python_run
from dcond.cli.given_sets import (
    NOT_READING,
    Given,
    LoadedSet,
    dataset_overrides,
    path_value,
    read_sets,
    refuse_sets,
)
from dcond.cli.instantiate import build, build_plan, get, prefetch_weights
from dcond.cli.labels import find_label
from dcond.cli.resume import suggest_resume
from dcond.cli.run_config import (
    CONDENSING_ONLY,
    NO_EFFECT,
    config_hash,
    dataset_name,
    requested_extras,
    result_affecting_config,
    selected_options,
    to_jsonable,
)
from dcond.device import peak_memory_bytes, reset_peak_memory, resolve_device
from dcond.distributed import current
from dcond.errors import ConfigError
from dcond.evaluation.protocol import BaseProtocol, EvaluationProtocol
from dcond.log import print_results
from dcond.paths import expand_home, relative_to_cwd
from dcond.run.context import command_run, cpu_threads, refuse_foreign_files
from dcond.run.evaluation import Evaluated, Evaluator, describe_storage
from dcond.run.progress import log_if_slow
from dcond.run.result import RunResult
from dcond.settings import NonNegativeInt
from dcond.types import SyntheticSet

log = logging.getLogger(__name__)


def evaluate(
    synthetic: Given,
    dataset: str | None = None,
    pool: str | None = None,
    seed: int | None = None,
    *,
    against: Given | None = None,
    overrides: Sequence[str] = (),
    folder: Path | str | None = None,
    progress: bool = True,
) -> Evaluated:
    """Evaluate a set as ``dcond evaluate`` does.

    Args:
        synthetic: a set, or the path of an artefact, a run folder, or a public layout.
        dataset: name of a data set (``dcond list datasets``); None: that of the set's metadata.
        pool: name of a pool (``dcond list pools``); None: the data set's default.
        seed: of the networks and of the random baselines.
        against: another set to compare with, on networks with the same initial weights.
        overrides: further settings, as on the command line.
        folder: gets ``result.json`` and the configuration; None makes none (caches are written).
        progress: show a progress bar on a terminal, log lines elsewhere.

    Returns:
        The evaluation: its ``result`` and the ``synthetic`` set; prints as a table.

    Raises:
        DcondError: a setting is wrong, or the set or the data cannot be used; one line.

    Example:
        >>> evaluated = dcond.evaluate("outputs/condense/RUN", pool="tiny")
        >>> evaluated.result.evaluation.networks["MLP"].mean
    """
    arguments = python_overrides(overrides, dataset=dataset, pool=pool, seed=seed)
    refuse_sets(arguments, "the sets to evaluate are arguments of dcond.evaluate")
    arguments.append(f"synthetic.path={path_value(synthetic)}")
    if against is not None:
        arguments.append(f"against.path={path_value(against)}")
    arguments += dataset_overrides(synthetic, arguments)
    folder = None if folder is None else expand_home(folder)
    with composed("evaluate", arguments) as (cfg, choices):
        result = new_result(cfg, choices)
    with python_run("evaluate", result, folder, cfg, arguments):
        return _evaluate(
            cfg, choices, result, synthetic, against, folder=folder, show_progress=progress
        )


def run_job(cfg: DictConfig) -> None:
    """Run one configuration in the folder that Hydra made for it."""
    hydra_cfg = HydraConfig.get()
    folder, choices = Path(hydra_cfg.runtime.output_dir), dict(hydra_cfg.runtime.choices)
    if not sweep.is_job():
        RunResult.refuse_finished(folder)
    refuse_foreign_files(folder)
    if OmegaConf.is_missing(cfg.synthetic, "path") or cfg.synthetic.path in (None, ""):
        raise ConfigError("no set to evaluate; give one: dcond evaluate FILE_OR_RUN_FOLDER.")
    if choices.get("dataset") is None:
        raise ConfigError("a sweep over several sets needs their data set; add dataset=NAME.")
    result = new_result(cfg, choices)
    if sweep.is_job() and RunResult.read_finished(folder) is not None:
        _identify(deepcopy(cfg), result, read_sets(cfg))
        sweep.load_finished_job(folder, result, evaluated=True)
        return
    shown: list[Any] = []
    try:
        with command_run(result, folder), cpu_threads(sweep.threads(cfg)), suggest_resume(folder):
            shown += _evaluate(cfg, choices, result, folder=folder).parts
            shown.append(f"-> {relative_to_cwd(folder)}")
    finally:  # the result may have found no room on the disk
        print_results(*shown)


def new_result(cfg: DictConfig, choices: dict[str, Any]) -> RunResult:
    """Return the result of an evaluation as it starts, with its choices and settings."""
    affecting = result_affecting_config(cfg, aside=NO_EFFECT | CONDENSING_ONLY)
    settings = {key: part for key, part in to_jsonable(affecting).items() if part is not None}
    # Recorded of the set: how it was read, where that was given.
    reading = {
        key: value
        for key, value in settings.pop("synthetic").items()
        if key not in NOT_READING and (value or (key, value) == ("normalised", False))
    }
    if reading:
        settings["synthetic"] = reading
    options = selected_options(affecting, choices)
    options.pop("synthetic", None)  # a group with one option
    return RunResult.start(choices=options, config=settings)


def _evaluate(
    cfg: DictConfig,
    choices: dict[str, Any],
    result: RunResult,
    synthetic: Given | None = None,
    against: Given | None = None,
    *,
    folder: Path | None = None,
    show_progress: bool = True,
) -> Evaluated:
    """Evaluate a set on the chosen data set, and complete the result.

    Args:
        cfg: the composed configuration.
        choices: the chosen option of every config group.
        result: as it starts.
        synthetic: the set, if it is in memory; else it is read as ``cfg`` says.
        against: the set to compare with, likewise.
        folder: of the run, if it has one.
        show_progress: show a progress bar or log lines.
    """
    result.seed = get(cfg, "seed", NonNegativeInt)
    device = resolve_device(str(cfg.device))
    reset_peak_memory(device)
    asked = deepcopy(cfg)  # now, since instantiate() resolves interpolations in cfg
    plan = build_plan(cfg, choices, sanity_checks=True)
    loaded = read_sets(cfg, synthetic, against)
    _identify(asked, result, loaded)
    prefetch_weights(plan.pool, plan.protocol)
    name = choices["dataset"]
    dataset = build(cfg.dataset, f"dataset={name}")
    result.dataset, result.device = dataset_name(cfg, name), str(device)
    result.cost.processes = current().count
    with log_if_slow(f"reading {result.dataset}"), current().first_before_others():
        real = dataset.load(device)
    result.dataset = real.name
    fitted = loaded["synthetic"].fitted(real)
    result.method = fitted.metadata.get("method", "unknown")
    result.source = loaded["synthetic"].origin(fitted)
    describe_storage(result, fitted)
    if "against" in loaded:
        plan = replace(plan, against=loaded["against"].fitted(real).to(device))
    _log_other_protocol(fitted, plan.protocol)
    label = None
    if plan.baselines and plan.protocol.teacher is None:
        label = find_label(fitted, real, cfg)
    evaluator = Evaluator(plan, real, show_progress=show_progress, label=label)
    evaluated = evaluator.evaluate(fitted.to(device), result, folder)
    result.cost.peak_memory_bytes = peak_memory_bytes(device)
    return evaluated


def _log_other_protocol(synthetic: SyntheticSet, protocol: BaseProtocol) -> None:
    """Log what a set was made for, if it is not evaluated so."""
    made_for = synthetic.metadata.get("evaluation", "").partition(" with ")[0]
    if made_for not in ("", protocol.name.partition(" with ")[0]):
        log.info("the set was made for evaluation=%s; this is %s", made_for, protocol.name)
    if not isinstance(protocol, EvaluationProtocol):
        return  # a linear probe has no learning rate
    rate, wanted = synthetic.learned_lr, protocol.lr == "learned"
    if rate is not None and not wanted:
        log.info("its learned rate %.4g is used with evaluation.lr=learned only", float(rate))
    if rate is None and wanted:
        log.info(
            "the set has no learned rate: each network trains at its own; evaluation.lr=RATE sets "
            "one for all"
        )


def _identify(cfg: DictConfig, result: RunResult, loaded: dict[str, LoadedSet]) -> None:
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
