"""The evaluation protocol: train networks from scratch on a set and test them once, at the end."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import torch

from dcond.errors import ConfigError, DataError, require
from dcond.evaluation.full_data import HeldOut, Sets
from dcond.evaluation.results import EvalResult, NetworkResult
from dcond.evaluation.sharding import TrainingGrid
from dcond.evaluation.vmap_training import (
    BENCHMARK_EPOCHS,
    Pairs,
    Stack,
    TrainingJob,
    choose_stack_size,
    in_stacks,
)
from dcond.models import Pool, Recipe
from dcond.rng import seeded_layers
from dcond.settings import NonNegativeInt, PositiveFloat, PositiveInt, settings
from dcond.training.accuracy import accuracy
from dcond.training.schedule import Schedule
from dcond.training.steps import SoftLabels
from dcond.training.teacher import Teacher, TrainedTeacher
from dcond.types import RealData, Split, SyntheticSet


class Rate(NamedTuple):
    """A learning rate and, if it was searched, the held-out accuracy of each rate."""

    lr: float | None = None
    searched: dict[float, float] | None = None


@settings
class BaseProtocol(ABC):
    """What all protocols share: every network is tested once, no choice depends on the test set.

    Args:
        name: name of the protocol in results.
        repeats: networks per architecture, each from its own seed.
        test_batch: test images per forward pass at up to 64 x 64 pixels; fewer for larger images.
        teacher: labels every batch in place of the set's own labels; None for none.
    """

    name: str
    repeats: PositiveInt = 5
    test_batch: PositiveInt = 1000
    teacher: Teacher | None = None

    def evaluate(
        self,
        sets: Sets,
        pool: Pool,
        test: Split,
        seed: int,
        *,
        progress: Callable[[str], None] = lambda note: None,
        held_out: HeldOut | None = None,
        teacher: TrainedTeacher | None = None,
    ) -> EvalResult:
        """Train ``repeats`` networks per architecture and test each once, at the end.

        The processes of a distributed run share the trainings.

        Args:
            sets: ``sets(r)`` is the set of repeat r: the same each time, or a new random subset.
            pool: the architectures.
            test: uint8 test images and labels.
            seed: seed of the run. The networks of repeat r start from the same weights whatever
                set they are trained on, so results can be compared in pairs.
            progress: called with the network and repeat that just ended.
            held_out: data to search learning rates on, see
                :func:`~dcond.evaluation.full_data.hold_out`; required if ``lr`` is "search".
            teacher: the trained teacher (:meth:`Teacher.load_or_train`); required if the protocol
                has a teacher.

        Raises:
            ConfigError: ``held_out`` or ``teacher`` is required and missing.
        """
        if self.teacher is None:
            teacher = None
        elif teacher is None:
            raise ConfigError("a protocol with a teacher needs a trained one; pass teacher=….")
        grid = TrainingGrid([*pool.networks], self.repeats, partial(self._train_all, test=test))
        rates = []
        for row, (name, recipe) in enumerate(pool.networks.items()):
            start = time.perf_counter()
            rates.append(self._rate(name, recipe, sets, held_out, seed, teacher))
            job = partial(_job, name, recipe, sets, seed, rates[-1].lr, teacher)
            grid.run_row(row, job, progress)
            grid.wall_s[row] = time.perf_counter() - start
        rows = zip(pool.networks, rates, grid.gather(), strict=True)
        networks = {name: self._result(rate, *found) for name, rate, found in rows}
        return EvalResult(self.name, networks, None if teacher is None else teacher.facts)

    @property
    def searches(self) -> bool:
        """Whether :meth:`evaluate` needs held-out training data."""
        return False

    @property
    def augments(self) -> bool:
        """Whether there is any augmentation, including CutMix."""
        return False

    def without_teacher(self) -> Self:
        """Return the same protocol with the labels of the set."""
        return replace(self, teacher=None)

    def without_augmentation(self) -> Self:
        """Return the same protocol without augmentation and CutMix."""
        return self

    def _rate(
        self,
        name: str,
        recipe: Recipe,
        sets: Sets,
        held_out: HeldOut | None,
        seed: int,
        teacher: TrainedTeacher | None,
    ) -> Rate:
        """Return the learning rate of a network."""
        return Rate()

    @abstractmethod
    def _train_all(self, jobs: Sequence[TrainingJob], test: Split) -> Iterator[tuple[float, float]]:
        """Yield the last and the best tested accuracy of every job's network, in order."""

    @abstractmethod
    def _result(self, rate: Rate, pairs: Pairs, wall_s: float) -> NetworkResult:
        """Return the result of one architecture: a pair of :meth:`_train_all` per repeat."""


@settings
class EvaluationProtocol(Schedule, BaseProtocol):
    """How networks are trained on a set and tested; no choice depends on the test set.

    Labels may be soft, probabilities (n, k); the loss is then -Σ y·log p.

    Args:
        lr: learning rate of all networks; None for each network's own rate from the pool;
            "learned" for the rate that was learned with the set, if it has one; "search" for the
            best of ``search_rates`` on held-out training data, for every network and set
            separately.
        search_rates: learning rates of a search, one training each.
        best_every: epochs between tests for ``best_over_epochs_on_test``, a separate figure that
            some papers report; 0 for none.
        stack: train the repeats of a network, or the rates of a search, at once. "auto": one after
            another on a CPU, elsewhere whichever is faster. Changes results by rounding only.

    The other arguments are those of :class:`BaseProtocol` and of
    :class:`~dcond.training.schedule.Schedule`.

    Example:
        >>> protocol = EvaluationProtocol(name="short", epochs=100, repeats=3)
        >>> result = protocol.evaluate(lambda repeat: synthetic, pool, real.test, seed=0)
        >>> result.average  # mean accuracy over the networks, a fraction
    """

    lr: PositiveFloat | Literal["search", "learned"] | None = None
    search_rates: tuple[float, ...] = (0.001, 0.005, 0.01, 0.05, 0.1)
    best_every: NonNegativeInt = 0
    stack: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        rates = list(self.search_rates)
        require(
            len(rates) > 0 and all(0 < rate < math.inf for rate in rates),
            f"evaluation.search_rates={rates} must be a list of one or more numbers above 0.",
        )

    @property
    def searches(self) -> bool:
        """Whether the learning rates are searched."""
        return self.lr == "search"

    def without_augmentation(self) -> Self:
        """Return the same protocol without augmentation and CutMix."""
        return replace(self, augment=None, cutmix_p=0.0)

    def _rate(
        self,
        name: str,
        recipe: Recipe,
        sets: Sets,
        held_out: HeldOut | None,
        seed: int,
        teacher: TrainedTeacher | None,
    ) -> Rate:
        """Return a network's learning rate, searched on held-out data if the protocol says so.

        All rates start from the same weights; on a tie the smallest rate wins.
        """
        if self.lr is None:
            return Rate(recipe.lr)
        if self.lr == "learned":
            learned = sets(0).learned_lr
            return Rate(recipe.lr if learned is None else float(learned))
        if not isinstance(self.lr, str):
            return Rate(self.lr)
        if held_out is None:
            raise ConfigError(
                "evaluation.lr=search needs held-out training data; pass a rate or null."
            )
        synthetic = (held_out.sets or sets)(0)
        rates, soft = sorted(self.search_rates), _soft_labels(synthetic, teacher)
        train = partial(replace(self, best_every=0)._train_all, test=held_out.split)
        grid = TrainingGrid([name], len(rates), train)
        stream = f"evaluation/{name}/search"
        grid.run_row(0, lambda i: TrainingJob(recipe, synthetic, seed, stream, rates[i], soft))
        tried = {rate: last for rate, (last, _) in zip(rates, grid.gather()[0][0], strict=True)}
        return Rate(max(tried, key=lambda rate: tried[rate]), tried)

    def _train_all(self, jobs: Sequence[TrainingJob], test: Split) -> Iterator[tuple[float, float]]:
        """Yield the result of :meth:`_train` for every job, in turn or in stacks."""
        short = replace(self, epochs=BENCHMARK_EPOCHS, best_every=0)
        one = test.part(torch.zeros(1, dtype=torch.long))
        size = choose_stack_size(
            self.stack, jobs, test.device, self.batch, lambda group: short._train(group, one)
        )
        yield from in_stacks(jobs, size, lambda group: self._train(group, test))

    def _result(self, rate: Rate, pairs: Pairs, wall_s: float) -> NetworkResult:
        accuracies, best = zip(*pairs, strict=True)
        return NetworkResult(
            accuracies=accuracies,
            lr=rate.lr,
            epochs=self.epochs,
            wall_s=wall_s,
            best=best if self.best_every else None,
            searched=rate.searched,
        )

    def _train(self, group: Sequence[TrainingJob], test: Split) -> Pairs:
        """Train one network, or several as a stack; return last and best accuracy of each."""
        device = test.device
        protocol = self if group[0].recipe.cutmix else replace(self, cutmix_p=0.0)
        if len(group) > 1:
            stack = Stack(group, device)
            return self._train_and_test(
                stack.groups(),
                lambda optimiser: stack.epoch(
                    optimiser, protocol.batch, protocol.augment, protocol.cutmix_p
                ),
                lambda: stack.accuracies(test, self.test_batch),
            )
        (job,) = group
        network, rng = job.begin(device)
        images, labels = job.inputs(device)
        with seeded_layers(job.seed, job.stream, device):
            return self._train_and_test(
                [{"params": list(network.parameters()), "lr": job.lr}],
                lambda optimiser: protocol.epoch(
                    network, optimiser, images.__getitem__, labels, rng, job.soft
                ),
                lambda: [accuracy(network, job.synthetic.spec, test, self.test_batch)],
            )

    def _train_and_test(
        self,
        groups: list[dict[str, Any]],
        epoch: Callable[[torch.optim.Optimizer], None],
        accuracies: Callable[[], list[float]],
    ) -> Pairs:
        """Run the schedule; test after the last epoch, and every ``best_every`` epochs."""
        tested = []

        def after_epoch(done: int) -> None:
            if self.best_every and done % self.best_every == 0:
                tested.append(accuracies())

        self.run(groups, epoch, after_epoch)
        last = accuracies()
        return list(zip(last, map(max, zip(*tested, last, strict=True)), strict=True))


def _job(
    name: str,
    recipe: Recipe,
    sets: Sets,
    seed: int,
    lr: float | None,
    teacher: TrainedTeacher | None,
    repeat: int,
) -> TrainingJob:
    synthetic, stream = sets(repeat), f"evaluation/{name}/{repeat}"
    return TrainingJob(recipe, synthetic, seed, stream, lr, _soft_labels(synthetic, teacher))


def _soft_labels(synthetic: SyntheticSet, teacher: TrainedTeacher | None) -> SoftLabels | None:
    return None if teacher is None else teacher.soft_labels(synthetic.spec)


def check_fits(synthetic: SyntheticSet, real: RealData) -> None:
    """Check that a set has the image size, channels and number of classes of a data set.

    Raises:
        DataError: they differ.
    """
    for name in ("channels", "height", "width", "classes"):
        ours, theirs = getattr(synthetic.spec, name), getattr(real.spec, name)
        if ours != theirs:
            raise DataError(
                f"the synthetic set has {name}={ours}, data set {real.name!r} has {theirs}; "
                "evaluate it on the data set it was made from (dataset=NAME), with the same "
                "options (dataset.size and the like)."
            )
