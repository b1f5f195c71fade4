"""The evaluation protocol: train every network of a pool from scratch on a set, test once, after the last epoch."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from dcond.errors import ConfigError, DataError, require, whole_number
from dcond.evaluation.accuracy import accuracy
from dcond.evaluation.results import EvalResult, NetworkResult
from dcond.evaluation.sharding import Spread
from dcond.evaluation.teacher import Teacher, TrainedTeacher
from dcond.evaluation.vmap_training import (
    STEPS,
    Pairs,
    Stack,
    TrainingJob,
    choose_stack_size,
    in_stacks,
)
from dcond.models import Pool, Recipe
from dcond.rng import seeded_layers
from dcond.training.schedule import Schedule
from dcond.training.steps import SoftLabels
from dcond.types import RealData, Split, SyntheticSet

Sets = Callable[[int], SyntheticSet]  # the set that repeat r trains on


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Training data that learning rates are chosen on.

    Args:
        split: uint8 images and labels that accuracies are taken on.
        sets: what is trained on meanwhile; None: the set itself. For real sets that contain the
            held-out images.
    """

    split: Split
    sets: Sets | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol(Schedule):
    """How a network is trained on a synthetic set, and tested. Nothing is chosen by looking at the test set.

    Labels may be soft, probabilities (n, k): the loss is then -Σ y·log p. The schedule's arguments
    are :class:`Schedule`'s.

    Args:
        name: how results call the protocol.
        repeats: networks trained per architecture, each from its own seed.
        lr: learning rate of every network; None takes each one's own from the pool; "search" the
            best of ``search_rates`` on held-out training data, for every network and every set by
            itself.
        search_rates: what is searched, one training each.
        test_batch: test images per forward pass, of up to 64 x 64 pixels: fewer of larger ones.
        best_every: epochs between looks at the test set for ``best_over_epochs_on_test``, a
            separate figure that some papers print; 0 for none.
        stack: train the repeats of a network, or the rates of a search, at once: true, false, or
            auto: in turn on a CPU, elsewhere whichever is measured to be faster. Changes no result
            beyond rounding.
        teacher: what labels every batch instead of the set's own labels; None for none.
    """

    name: str
    repeats: int = 5
    lr: float | str | None = None
    search_rates: tuple[float, ...] = (0.001, 0.005, 0.01, 0.05, 0.1)
    test_batch: int = 1000
    best_every: int = 0
    stack: bool | str = "auto"
    teacher: Teacher | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("repeats", "test_batch"):
            whole_number(f"evaluation.{field}", getattr(self, field))
        good = self.lr in (None, "search") or (
            not isinstance(self.lr, str) and 0 < self.lr < math.inf
        )
        require(
            good, f"evaluation.lr={self.lr} must be a number greater than 0, or null, or search."
        )
        good = len(self.search_rates) > 0 and all(0 < rate < math.inf for rate in self.search_rates)
        require(
            good,
            f"evaluation.search_rates={list(self.search_rates)}: at least one, each greater than 0.",
        )
        require(
            self.best_every >= 0,
            f"evaluation.best_every={self.best_every} is out of range; allowed: 0 or more.",
        )
        good = isinstance(self.stack, bool) or self.stack == "auto"
        require(good, f"evaluation.stack={self.stack!r} is unknown; allowed: auto, true, false.")

    def evaluate(
        self,
        sets: Sets,
        pool: Pool,
        test: Split,
        seed: int,
        *,
        progress: Callable[[str], None] = lambda note: None,
        held_out: HeldOut | None = None,
        taught: TrainedTeacher | None = None,
    ) -> EvalResult:
        """Train ``repeats`` networks of every recipe and test each once; processes that share a run share the networks.

        Args:
            sets: ``sets(r)`` is what repeat r trains on: the same set each time, or a fresh random
                subset.
            pool: the architectures.
            test: uint8 test images and labels.
            seed: of the run; the networks of repeat r start alike whatever set they train on, so
                sets are compared in pairs.
            progress: told the network and repeat that just ended.
            held_out: where learning rates are searched; needed for that only.
            taught: the protocol's teacher, trained (:meth:`Teacher.load_or_train`); needed where it has
                one only.

        Raises:
            ConfigError: one of the two is needed and not given.
        """
        require(
            self.teacher is None or taught is not None,
            "a protocol with a teacher needs it trained: taught=….",
        )
        labels = taught if self.teacher is not None else None
        spread = Spread(
            [*pool.networks], self.repeats, lambda group: self._train_and_test_all(group, test)
        )
        rates = []
        for row, (name, recipe) in enumerate(pool.networks.items()):
            start = time.perf_counter()
            rates.append(self._rate(name, recipe, sets, held_out, seed, labels))
            spread.take(
                row, partial(_training, name, recipe, sets, seed, rates[-1][0], labels), progress
            )
            spread.wall_s[row] = time.perf_counter() - start
        results: dict[str, NetworkResult] = {}
        for name, (lr, searched), pairs in zip(
            pool.networks, rates, spread.gathered(), strict=True
        ):
            accuracies, best = zip(*pairs, strict=True)
            looks, wall_s = best if self.best_every else None, spread.wall_s[len(results)]
            results[name] = NetworkResult(accuracies, lr, self.epochs, wall_s, looks, searched)
        return EvalResult(self.name, results, None if labels is None else labels.facts)

    def without_teacher(self) -> "EvaluationProtocol":
        """Return the same protocol on the labels of the set."""
        return replace(self, teacher=None)

    def without_augmentation(self) -> "EvaluationProtocol":
        """Return the same protocol on plain images: no augmentation, no CutMix."""
        return replace(self, augment=None, cutmix_p=0.0)

    def _rate(
        self,
        name: str,
        recipe: Recipe,
        sets: Sets,
        held_out: HeldOut | None,
        seed: int,
        labels: TrainedTeacher | None,
    ) -> tuple[float, dict[float, float] | None]:
        """Return the learning rate of a network on a set, and the held-out accuracies it was chosen by.

        Every rate gets the same start; the smallest wins where they tie.
        """
        if self.lr is None:
            return recipe.lr, None
        if not isinstance(self.lr, str):
            return self.lr, None
        if held_out is None:
            raise ConfigError(
                "evaluation.lr=search needs held-out training data; give a rate, or null."
            )
        quiet = replace(self, best_every=0)
        synthetic = held_out.sets(0) if held_out.sets is not None else sets(0)
        stream, rates = f"evaluation/{name}/search", sorted(self.search_rates)
        split, soft = held_out.split, _soft_labels(synthetic, labels)
        spread = Spread([name], len(rates), lambda group: quiet._train_and_test_all(group, split))
        spread.take(
            0, lambda number: TrainingJob(recipe, synthetic, seed, stream, rates[number], soft)
        )
        tried = {rate: last for rate, (last, _) in zip(rates, spread.gathered()[0], strict=True)}
        return max(tried, key=lambda rate: tried[rate]), tried

    def _train_and_test_all(
        self, trainings: Sequence[TrainingJob], test: Split
    ) -> Iterator[tuple[float, float]]:
        """Yield what :meth:`_train_and_test` finds of every network, trained in turn or several at once."""
        brief = replace(self, epochs=STEPS, best_every=0)
        one = test.part(torch.zeros(1, dtype=torch.long))
        device = test.device
        at_once = choose_stack_size(
            self.stack,
            trainings,
            device,
            self.batch,
            lambda group: brief._train_and_test(group, one),
        )
        yield from in_stacks(trainings, at_once, lambda group: self._train_and_test(group, test))

    def _train_and_test(self, group: Sequence[TrainingJob], test: Split) -> Pairs:
        """Return each network's accuracy after the last epoch, and the largest of those that ``best_every`` asks for.

        Several networks are trained as one stack.
        """
        device = test.device
        how = self if group[0].recipe.cutmix else replace(self, cutmix_p=0.0)
        if len(group) > 1:
            stack = Stack(group, device)
            return self._schedule(
                stack.groups(),
                lambda optimiser: stack.epoch(optimiser, how.batch, how.augment, how.cutmix_p),
                lambda: stack.accuracies(test, self.test_batch),
            )
        (training,) = group
        network, rng = training.begin(device)
        images, labels = training.inputs(device)
        with seeded_layers(training.seed, training.stream, device):
            return self._schedule(
                [{"params": list(network.parameters()), "lr": training.lr}],
                lambda optimiser: how.epoch(network, optimiser, images, labels, rng, training.soft),
                lambda: [accuracy(network, training.synthetic.spec, test, self.test_batch)],
            )

    def _schedule(
        self,
        groups: list[dict[str, Any]],
        epoch: Callable[[torch.optim.Optimizer], None],
        tested: Callable[[], list[float]],
    ) -> Pairs:
        """Train and test: at the end, and where ``best_every`` asks for it."""
        looks = []

        def look(done: int) -> None:
            if self.best_every and done % self.best_every == 0:
                looks.append(tested())

        self.run(groups, epoch, look)
        last = tested()
        return list(zip(last, map(max, zip(*looks, last, strict=True)), strict=True))


def _training(
    name: str,
    recipe: Recipe,
    sets: Sets,
    seed: int,
    lr: float,
    taught: TrainedTeacher | None,
    repeat: int,
) -> TrainingJob:
    synthetic = sets(repeat)
    return TrainingJob(
        recipe, synthetic, seed, f"evaluation/{name}/{repeat}", lr, _soft_labels(synthetic, taught)
    )


def _soft_labels(synthetic: SyntheticSet, taught: TrainedTeacher | None) -> SoftLabels | None:
    return None if taught is None else taught.soft_labels(synthetic.spec)


def check_fits(synthetic: SyntheticSet, real: RealData) -> None:
    """Raise :class:`DataError` unless the set can be tested on this data: same image size, channels and classes."""
    ours, theirs = synthetic.spec, real.spec
    for what in ("channels", "height", "width", "classes"):
        if getattr(ours, what) != getattr(theirs, what):
            raise DataError(
                f"the synthetic set has {what}={getattr(ours, what)}, data set {real.name!r} has "
                f"{getattr(theirs, what)}; evaluate it on the data set it was made from (dataset=NAME), with the "
                "words that shaped that then (dataset.size and the like)."
            )
