"""Evaluating a set: the pool on the set itself, on its baselines, and for its scores."""

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path

import torch
from rich.console import RenderableType
from torch import Tensor

import dcond
from dcond import artefact
from dcond.cache import cache_file, own_code
from dcond.data.fingerprint import fingerprint, fingerprint_of_split
from dcond.data.validate import missing_classes
from dcond.distributed import current
from dcond.evaluation.baselines import random_subset
from dcond.evaluation.full_data import Sets, check_full_data_fits, evaluate_full_data, hold_out
from dcond.evaluation.one_by_one import Progress, Training, train_one_by_one
from dcond.evaluation.protocol import BaseProtocol, check_fits
from dcond.evaluation.results import HARD, EvalResult, compare
from dcond.evaluation.sanity_checks import check_input_statistics, check_test_split, near_chance
from dcond.evaluation.scores import SCORES, scores
from dcond.models import Pool, Recipe
from dcond.rng import generator
from dcond.run.progress import progress_display
from dcond.run.result import ACCURACY, TEST, UNFINISHED, AgainstResult, Baselines, RunResult
from dcond.run.tables import (
    BASELINE_TITLES,
    Tables,
    comparison_table,
    cross_architecture,
    score_table,
)
from dcond.training.teacher import TrainedTeacher
from dcond.types import RealData, SyntheticSet

log = logging.getLogger(__name__)

Label = Callable[[SyntheticSet], SyntheticSet]  # the same images with other labels


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """How a set is evaluated, and what is trained besides the set itself.

    Args:
        protocol: how every network is trained.
        pool: the networks.
        seed: of the networks and of the random baselines.
        cache: folder of full-data results and teachers, which later runs reuse.
        baselines: also train on random real images in the same storage.
        extra: further trainings for scores: "full", the whole training set (HLR, LRS);
            "unaugmented", the set and random images without augmentation (ARS).
        against: another set to compare with, on networks that start alike.
        sanity_checks: warn of signs that the set was read wrongly, or made from the test images.
        tested_on: "test" or "held_out", see :data:`~dcond.run.result.ACCURACY`.
    """

    protocol: BaseProtocol
    pool: Pool
    seed: int = 0
    cache: Path = Path("outputs/cache")
    baselines: bool = True
    extra: frozenset[str] = frozenset()
    against: SyntheticSet | None = None
    sanity_checks: bool = False
    tested_on: str = TEST


@dataclass(frozen=True, kw_only=True)
class Evaluated(Tables):
    """An evaluated set, its result and its tables."""

    synthetic: SyntheticSet
    result: RunResult


class Evaluator:
    """A plan for one data set; what its evaluations share (held-out rows, teacher) is made once.

    Args:
        plan: what to evaluate.
        real: the data; tested on its test split.
        show_progress: show a progress bar or log lines.
        label: gives random images labels of the same kind as those of a set with soft labels; None
            leaves them hard.

    Raises:
        DataError: the data does not fit the plan: too few images to search a learning rate, or
            too many for memory.
        ConfigError: a network of the pool, or the teacher, cannot take the images.
    """

    def __init__(
        self,
        plan: EvaluationPlan,
        real: RealData,
        *,
        show_progress: bool = True,
        label: Label | None = None,
    ):
        self.plan, self.real, self.show_progress, self.label = plan, real, show_progress, label
        plan.pool.check(real.spec)
        own_code(plan.protocol, *plan.pool.networks.values())
        if plan.protocol.teacher is not None:
            own_code(plan.protocol.teacher, plan.protocol.teacher.network)
            plan.protocol.teacher.network.build(real.spec, generator(0, "check"))
        if "full" in plan.extra:
            check_full_data_fits(real)
        self.held_out = hold_out(plan.protocol, real)

    @cached_property
    def teacher(self) -> TrainedTeacher | None:
        """The network that labels the batches, loaded or trained on first use."""
        teacher = self.plan.protocol.teacher
        return None if teacher is None else teacher.load_or_train(self.real, self.plan.cache)

    def train(
        self,
        sets: Sets,
        pool: Pool | None = None,
        progress: Progress = lambda note: None,
        *,
        protocol: BaseProtocol | None = None,
    ) -> EvalResult:
        """Train networks on ``sets(repeat)`` and test them: by default as the plan says."""
        return (protocol or self.plan.protocol).evaluate(
            sets,
            pool or self.plan.pool,
            self.real.test,
            self.plan.seed,
            progress=progress,
            held_out=self.held_out,
            teacher=self.teacher,
        )

    def evaluate(
        self,
        synthetic: SyntheticSet,
        result: RunResult,
        folder: Path | None = None,
    ) -> Evaluated:
        """Train everything that is planned, complete ``result``, and return the tables.

        Args:
            synthetic: the set, on the device that computes.
            result: gets accuracies, baselines, scores and costs.
            folder: of the run. Until ``result.json`` is written it holds the result of every
                finished network, from which the same evaluation goes on after an interruption.

        Raises:
            DataError: the set does not fit the data.
        """
        plan, real = self.plan, self.real
        for each in filter(None, (synthetic, plan.against)):
            check_fits(each, real)
            if each.spec != real.spec:  # they normalise in another way, as networks will see
                plan.pool.check(each.spec)
        if plan.sanity_checks:
            _warn(check_input_statistics(synthetic, real), check_test_split(synthetic, real))
        if plan.sanity_checks and (against := plan.against) is not None:
            found = (check_input_statistics(against, real), check_test_split(against, real))
            texts = (text.replace("synthetic.", "against.") for text in filter(None, found))
            _warn(*(f"against: {text}" for text in texts))
        result.normalisation = describe_normalisation(synthetic, real)
        start = time.perf_counter()  # includes the training of a teacher
        file = None if folder is None else self._files(synthetic, result, folder / UNFINISHED)
        results, before_s = self._train_all(synthetic, file)
        result.cost.evaluate_wall_s = before_s + time.perf_counter() - start
        if self._stored_soft(synthetic):
            labels = HARD if self.label is None else f"as {result.method}"
            for name in BASELINE_TITLES.keys() & results:
                results[name] = replace(results[name], labels=labels)
        result.evaluation = replace(results["condensed"], tested_on=plan.tested_on)
        result.baselines = Baselines(
            **{name: results.get(name) for name in ("random", "random_decoded", "full")}
        )
        own = ("hard_labels", "condensed_unaugmented", "random_unaugmented")  # of scores alone
        result.score_inputs = {name: results[name] for name in own if name in results} or None
        if synthetic.labels.ndim == 1 and self.teacher is None:
            results["hard_labels"] = results["condensed"]
        result.scores = scores(results)
        parts = self._tables(synthetic, results, result)
        if plan.sanity_checks:
            _warn(near_chance(results["condensed"], results.get("random"), synthetic))
        synthetic = synthetic.to(torch.device("cpu"))
        return Evaluated(parts=parts, synthetic=synthetic, result=result)

    def _files(
        self, synthetic: SyntheticSet, result: RunResult, folder: Path
    ) -> Callable[[str, str, Recipe], Path] | None:
        """Return the file of a training and network; None where none is kept.

        One network at a time would leave some of several processes idle.
        """
        if result.config_sha256 is None or current().count > 1:
            return None
        teacher, real = self.plan.protocol.teacher, self.real
        sets = [artefact.content_hash(each) for each in (synthetic, self.plan.against) if each]
        if isinstance(real.train.images, Tensor):
            data = [fingerprint(real)]
        else:  # reading all images would take long
            data = [fingerprint_of_split(split) for split in (real.train, real.test)]
        labels = [self.label is None, teacher and teacher.network.by_content()]
        made_by = [dcond.__version__, result.versions, result.git_commit, result.device]
        key = f"{made_by}/{result.config_sha256}/{sets}/{data}/{labels}"

        def file(training: str, network: str, recipe: Recipe) -> Path:
            own = f"{recipe.by_content()!r}{own_code(self.plan.protocol, recipe)}"
            return cache_file(folder, f"{training}_{network}", f"{key}/{own}")

        return file

    def _train_all(
        self, synthetic: SyntheticSet, file: Callable[[str, str, Recipe], Path] | None
    ) -> tuple[dict[str, EvalResult], float]:
        """Return the result of every training, and the seconds of those read from files."""
        pool, trainings = self.plan.pool, self._trainings(synthetic)
        results: dict[str, EvalResult] = {}
        read: list[EvalResult] = []
        count = len(trainings) * len(pool.networks) * self.plan.protocol.repeats
        with progress_display("evaluate", count, show=self.show_progress) as bar:
            done = itertools.count(1)
            for name, training in trainings.items():

                def show(note: str, name: str = name) -> None:
                    bar.update(next(done), f"{name}: {note}")

                if file is None or name == "full":  # which has a cache of its own
                    results[name] = training(pool, show)
                else:
                    what, files = f"accuracies ({name})", partial(file, name)
                    results[name] = train_one_by_one(
                        training, pool, show, files, what=what, on_read=read.append
                    )
        return results, sum(found.wall_s for found in read)

    def _trainings(self, synthetic: SyntheticSet) -> dict[str, Training]:
        """Return what is to be trained, by name; the set itself is ``condensed``."""
        plan = self.plan
        if self.teacher is not None and synthetic.labels.ndim == 2:
            log.info("the teacher's labels replace the stored soft labels")
        trainings: dict[str, Training] = {}
        trainings["condensed"] = partial(self.train, lambda repeat: synthetic)
        if (against := plan.against) is not None:
            trainings["against"] = partial(self.train, lambda repeat: against)
        draws = self._draws(synthetic)
        trainings |= {name: partial(self.train, sets) for name, sets in draws.items()}
        if "full" in plan.extra:
            trainings["full"] = lambda pool, progress: evaluate_full_data(
                plan.protocol,
                pool,
                self.real.normalised_as(synthetic),
                plan.seed,
                plan.cache,
                progress=progress,
            )
            # HLR is defined on hard labels
            if synthetic.labels.ndim == 2 or self.teacher is not None:
                hard = replace(synthetic, labels=synthetic.classes, logits=False)
                trainings["hard_labels"] = partial(
                    self.train, lambda repeat: hard, protocol=plan.protocol.without_teacher()
                )
        if "unaugmented" in plan.extra:
            if "random" not in draws:
                log.warning("no ARS: it needs random images (baselines=true)")
            elif plan.protocol.augments:
                plain = plan.protocol.without_augmentation()
                for name, sets in (
                    ("condensed", lambda repeat: synthetic),
                    ("random", draws["random"]),
                ):
                    trainings[f"{name}_unaugmented"] = partial(self.train, sets, protocol=plain)
            else:
                log.warning("no ARS: protocol %s has no augmentation", plan.protocol.name)
        return trainings

    def _stored_soft(self, synthetic: SyntheticSet) -> bool:
        """Return whether networks are trained on soft labels of the set, not on a teacher's."""
        return self.teacher is None and synthetic.labels.ndim == 2

    def _draws(self, synthetic: SyntheticSet) -> dict[str, Sets]:
        """Return the random baselines; every network of a repeat trains on the same draw."""
        if not self.plan.baselines:
            return {}
        sizes = zip(self.real.class_names, self.real.class_rows, synthetic.counts, strict=True)
        for name, rows, stored in sizes:
            if len(rows) < stored:  # a set made from noise may hold more
                log.warning(
                    "no random baselines: class %r of %s has %d real images, the set %d",
                    *(name, self.real.name, len(rows), stored),
                )
                return {}
        factors = {"random": 1} | (
            {"random_decoded": synthetic.factor} if synthetic.factor > 1 else {}
        )
        label = self.label if self._stored_soft(synthetic) else None

        def draw(repeat: int, factor: int) -> SyntheticSet:
            subset = random_subset(self.real, synthetic, self.plan.seed, repeat, factor=factor)
            return subset if label is None else label(subset)

        return {name: cache(partial(draw, factor=factor)) for name, factor in factors.items()}

    def _tables(
        self,
        synthetic: SyntheticSet,
        results: dict[str, EvalResult],
        result: RunResult,
    ) -> list[RenderableType]:
        title = f"{result.method} on {self.real.name}, {synthetic.ipc} image(s) per class"
        condensed, accuracy = results["condensed"], ACCURACY[self.plan.tested_on]
        random = {name: results[name] for name in BASELINE_TITLES if name in results}
        untested = missing_classes(self.real.test.labels.cpu().numpy(), self.real.class_names)
        parts: list[RenderableType] = [
            cross_architecture(title, condensed, random, accuracy, untested)
        ]
        known = result.scores
        # IOR alone follows from the first table.
        if known is not None and any(known[name] is not None for name in SCORES if name != "ior"):
            parts.append(score_table(known, results.get("full")))
        if self.plan.against is not None:
            parts.append(_compare(synthetic, self.plan.against, results, result))
        each = ", ".join(f"{name} {found.percent()}" for name, found in condensed.networks.items())
        return [*parts, f"average {accuracy} {100 * condensed.average:.1f} % ({each})"]


def _compare(
    synthetic: SyntheticSet,
    against: SyntheticSet,
    results: dict[str, EvalResult],
    result: RunResult,
) -> RenderableType:
    """Complete ``result.comparison`` and return its table."""
    first, second = (each.metadata.get("method", "unknown") for each in (synthetic, against))
    comparison = compare(results["condensed"], results["against"])
    result.comparison = AgainstResult(
        against=second,
        ipc=against.ipc,
        factor=against.factor,
        evaluation=results["against"],
        networks=comparison.networks,
        average=comparison.average,
    )
    if first == second:
        first, second = f"{first} (synthetic)", f"{second} (against)"
    return comparison_table((first, second), results["condensed"], results["against"], comparison)


def describe_storage(result: RunResult, synthetic: SyntheticSet) -> None:
    """Complete the fields of a result that say how much a set stores."""
    result.ipc, result.factor = synthetic.ipc, synthetic.factor
    result.images_stored = len(synthetic.images)
    result.images_decoded = len(synthetic.images) * synthetic.factor**2
    tensors = [synthetic.images, *([synthetic.labels] if synthetic.labels.ndim == 2 else [])]
    result.bytes_stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def describe_normalisation(synthetic: SyntheticSet, real: RealData) -> str | None:
    """Describe the normalisation of the set; None where it is that of the data set."""
    if synthetic.whitening is not None:
        return "zca"
    ours, theirs = (
        "mean=[{}] std=[{}]".format(
            *(",".join(f"{x:.4g}" for x in values) for values in (each.mean, each.std))
        )
        for each in (synthetic, real)
    )
    return None if ours == theirs else ours


def _warn(*warnings: str | None) -> None:
    for warning in filter(None, warnings):
        log.warning("%s", warning)
