"""Evaluation as both ``condense`` and ``evaluate`` do it: the set, the baselines, the tables, the result's fields."""

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from dcond.errors import DataError
from dcond.evaluate import EvalResult, EvaluationProtocol, random_subset
from dcond.evaluate.full_data import Sets, check_full_data_fits, evaluate_full_data, hold_out
from dcond.evaluate.protocol import check_fits
from dcond.evaluate.results import compare
from dcond.evaluate.sanity_checks import check_input_statistics, check_test_split, near_chance
from dcond.evaluate.scores import scores
from dcond.init.initialisers import check_ipc
from dcond.models import Pool
from dcond.run.progress import Reporter, reporter
from dcond.run.result import ACCURACY, TEST
from dcond.run.score_table import comparison_table, score_table
from dcond.run.tables import BASELINE_TITLES, cross_architecture, percent
from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)

Trial = Callable[["_Counter"], EvalResult]  # one set under one protocol


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """What is trained besides the set itself.

    Args:
        baselines: random real images in the same storage.
        full: the whole real set, for HLR and LRS.
        unaugmented: set and random images without augmentation too, for ARS.
        cache: where the whole set's figures and teachers are kept.
        against: another set to compare with.
        doubt: warn of signs that the set was read wrongly, or made from the test images.
        tested_on: what accuracies are taken on, a key of :data:`~dcond.run.result.ACCURACY`.
    """

    baselines: bool
    full: bool
    unaugmented: bool
    cache: Path
    against: SyntheticSet | None = None
    doubt: bool = False
    tested_on: str = TEST


def evaluate_with_baselines(
    protocol: EvaluationProtocol,
    pool: Pool,
    real: RealData,
    synthetic: SyntheticSet,
    seed: int,
    result: dict[str, Any],
    *,
    title: str,
    wanted: EvaluationPlan,
) -> list[RenderableType]:
    """Train the pool on the set and on what else is wanted; fill ``result``.

    Returns:
        The tables and the last line, to be printed when the result is on disk.
    """
    check_fits(synthetic, real)
    if wanted.against is not None:
        check_fits(wanted.against, real)
    check_memory(real, protocol, full=wanted.full)
    for look in (check_input_statistics, check_test_split) if wanted.doubt else ():
        if warning := look(synthetic, real):
            log.warning("%s", warning)
    start = time.perf_counter()  # a teacher that is not kept yet is trained first
    trials = _PlannedTrainings(protocol, pool, real, synthetic, seed, wanted).all()
    found: dict[str, EvalResult] = {}
    with reporter("evaluate", len(trials) * len(pool.networks) * protocol.repeats) as bar:
        count = _Counter(bar)
        for name, trial in trials.items():
            count.what = name
            found[name] = trial(count)
    result["cost"]["evaluate_wall_s"] = time.perf_counter() - start
    if "hard_labels" not in found and synthetic.labels.ndim == 1 and protocol.teacher is None:
        found["hard_labels"] = found["condensed"]
    result["normalisation"] = _normalisation(synthetic, real)
    _fill(result, found, wanted.tested_on)
    accuracy = ACCURACY[wanted.tested_on]
    tables = _tables(title, found, result, accuracy)
    ours = found["condensed"]
    if wanted.against is not None:
        tables.append(_compared(synthetic, wanted.against, found, result))
    if wanted.doubt and (warning := near_chance(ours, found.get("random"), synthetic)):
        log.warning("%s", warning)
    each = ", ".join(f"{name} {percent(network)}" for name, network in ours.networks.items())
    return [*tables, f"average {accuracy} {100 * ours.average:.1f} % ({each})"]


def check_memory(real: RealData, protocol: EvaluationProtocol, *, full: bool) -> None:
    """Raise :class:`DataError` where the whole real set is to be trained on and does not fit in memory."""
    if full:
        check_full_data_fits(real, "scores.full=true")
    if protocol.teacher is not None:
        check_full_data_fits(real, "teacher=...")


def _normalisation(synthetic: SyntheticSet, real: RealData) -> str | None:
    """Say how networks see the set, and the random images beside it; None: by the data set's own mean and std."""
    if synthetic.whitening is not None:
        return "zca"
    ours, own = (
        "mean=[{}] std=[{}]".format(
            *(",".join(f"{x:.4g}" for x in values) for values in (of.mean, of.std))
        )
        for of in (synthetic, real)
    )
    return None if ours == own else ours


class _PlannedTrainings:
    """Says what is to be trained, by name."""

    def __init__(
        self,
        protocol: EvaluationProtocol,
        pool: Pool,
        real: RealData,
        synthetic: SyntheticSet,
        seed: int,
        wanted: EvaluationPlan,
    ):
        self.protocol, self.pool, self.real, self.seed, self.wanted = (
            protocol,
            pool,
            real,
            seed,
            wanted,
        )
        self.synthetic = synthetic
        self.held_out = hold_out(protocol, real)
        self.taught = (
            None if protocol.teacher is None else protocol.teacher.load_or_train(real, wanted.cache)
        )
        if self.taught is not None and synthetic.labels.ndim == 2:
            log.info("the teacher's labels take the place of the soft labels that are stored")

    def all(self) -> dict[str, Trial]:
        """Return every trial; the set itself is ``condensed``."""
        trials = {"condensed": self._trial(lambda repeat: self.synthetic)}
        if self.wanted.against is not None:
            against = self.wanted.against
            trials["against"] = self._trial(lambda repeat: against)
        draws = self._draws()
        trials |= {name: self._trial(sets) for name, sets in draws.items()}
        if self.wanted.full:
            trials["full"] = lambda count: evaluate_full_data(
                self.protocol, self.pool, self.real, self.seed, self.wanted.cache, progress=count
            )
            soft = self.synthetic.labels.ndim == 2
            if soft or self.taught is not None:  # HLR is of hard labels
                hard = (
                    replace(self.synthetic, labels=self.synthetic.labels.argmax(1))
                    if soft
                    else self.synthetic
                )
                trials["hard_labels"] = self._trial(
                    lambda repeat: hard, self.protocol.without_teacher()
                )
        if self.wanted.unaugmented and "random" in draws:
            trials |= self._unaugmented(draws["random"])
        return trials

    def _trial(self, sets: Sets, protocol: EvaluationProtocol | None = None) -> Trial:
        chosen = protocol or self.protocol
        return lambda count: chosen.evaluate(
            sets,
            self.pool,
            self.real.test,
            self.seed,
            progress=count,
            held_out=self.held_out,
            teacher=self.taught,
        )

    def _draws(self) -> dict[str, Sets]:
        """Return the random baselines."""
        draws: dict[str, Sets] = {}
        if self.wanted.baselines and _enough(self.real, self.synthetic.ipc):
            for name, factor in {"random": 1, "random_decoded": self.synthetic.factor}.items():
                if name == "random" or factor > 1:
                    draw = functools.partial(
                        random_subset, self.real, self.synthetic, self.seed, factor=factor
                    )
                    draws[name] = functools.cache(
                        draw
                    )  # every network of a repeat trains on the same draw
        return draws

    def _unaugmented(self, random: Sets) -> dict[str, Trial]:
        if not self.protocol.augments:
            log.warning("no ARS: protocol %s has no augmentation to leave out", self.protocol.name)
            return {}
        bare = self.protocol.without_augmentation()
        return {
            "condensed_unaugmented": self._trial(lambda repeat: self.synthetic, bare),
            "random_unaugmented": self._trial(random, bare),
        }


def _fill(result: dict[str, Any], found: dict[str, EvalResult], tested_on: str) -> None:
    result["evaluation"] = found["condensed"].as_dict() | {"tested_on": tested_on}
    for name in result["baselines"]:
        if name in found:
            result["baselines"][name] = found[name].as_dict()
    inputs = {name: found[name].as_dict() for name in found if name.endswith("_unaugmented")}
    if found.get("hard_labels", found["condensed"]) is not found["condensed"]:
        inputs["hard_labels"] = found["hard_labels"].as_dict()
    result["score_inputs"] = inputs or None
    result["scores"] = scores(found)


def _tables(
    title: str, found: dict[str, EvalResult], result: dict[str, Any], accuracy: str
) -> list[RenderableType]:
    random = {name: found[name] for name in BASELINE_TITLES if name in found}
    tables: list[RenderableType] = [cross_architecture(title, found["condensed"], random, accuracy)]
    known = result["scores"]
    if known is not None and (
        known["hlr"] is not None or known["ars"] is not None
    ):  # IOR alone is the gain above
        tables.append(score_table(known, found.get("full")))
    return tables


def _compared(
    ours: SyntheticSet, theirs: SyntheticSet, found: dict[str, EvalResult], result: dict[str, Any]
) -> RenderableType:
    comparison = compare(found["condensed"], found["against"])
    first, second = (each.metadata.get("method", "unknown") for each in (ours, theirs))
    result["comparison"] = {
        "against": second,
        "ipc": theirs.ipc,
        "factor": theirs.factor,
        "evaluation": found["against"].as_dict(),
    } | comparison.as_dict()
    names = (first, second) if first != second else (f"{first} (synthetic)", f"{second} (against)")
    return comparison_table(names, found["condensed"], found["against"], comparison)


def _enough(real: RealData, ipc: int) -> bool:
    """Tell whether every class has ``ipc`` real images to draw; a set made from noise may hold more."""
    try:
        check_ipc(real, ipc)
    except DataError:
        log.warning(
            "no random baselines: some class of %s has fewer than ipc=%d real images",
            real.name,
            ipc,
        )
        return False
    return True


class _Counter:
    """Counts finished trainings for the progress display."""

    def __init__(self, bar: Reporter):
        self.bar, self.done, self.what = bar, 0, ""

    def __call__(self, note: str) -> None:
        self.done += 1
        self.bar.update(self.done, f"{self.what}: {note}")
