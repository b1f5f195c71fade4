"""Networks of one architecture trained side by side: one pass for all of them, the result of one after another."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from dcond.augment import DiffAug
from dcond.errors import first_line
from dcond.evaluation.accuracy import accuracies
from dcond.measure import fastest
from dcond.memory import to_device
from dcond.models import Recipe
from dcond.rng import generator
from dcond.training.steps import SoftLabels, TrainingBatch, training_batches
from dcond.types import Split, SyntheticSet

log = logging.getLogger(__name__)

Pairs = list[
    tuple[float, float]
]  # per network: the accuracy after the last epoch, and the largest of all looks
ONE = "training one network does not fit in the device's memory; take a smaller evaluation.batch."

STEPS = 5  # per network, where both ways are measured

_measured: dict[tuple[object, ...], int] = {}  # how many at once, by architecture, sizes and device


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """One network to be trained.

    Args:
        recipe: of the network.
        synthetic: what it is trained on.
        seed: of the run.
        stream: names the random numbers: the network's weights, then order and augmentation of the
            images.
        lr: learning rate to begin with.
        soft: what labels its batches, if not the set itself.
    """

    recipe: Recipe
    synthetic: SyntheticSet
    seed: int
    stream: str
    lr: float
    soft: SoftLabels | None = None

    def begin(self, device: torch.device) -> tuple[nn.Module, torch.Generator]:
        """Return the untrained network, in train mode, and what supplies every draw from here on."""
        rng = generator(self.seed, self.stream)
        return self.recipe.build(self.synthetic.spec, rng, device), rng

    @torch.no_grad()  # the set may still be what a method optimises
    def inputs(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the decoded images, normalised, and their labels."""
        images, labels = self.synthetic.to(device).decoded()
        return self.synthetic.spec.normalise(images), labels

    def shortened(self, images: int) -> "TrainingJob":
        """Return the same with so many decoded images at most (or one stored one), whatever their classes."""
        stored = max(1, images // self.synthetic.factor**2)
        few = replace(
            self.synthetic,
            images=self.synthetic.images[:stored],
            labels=self.synthetic.labels[:stored],
        )
        return replace(self, synthetic=few)


class Stack:
    """r networks of one architecture, each trained as :func:`~dcond.training.steps.training_step` would train it alone.

    Weights, gradients and buffers (batch norm's statistics) carry a first axis r, and one pass
    computes all of them (``vmap``). The optimiser is PyTorch's own: what it does is elementwise, so
    it may be done to stacked weights.

    Args:
        trainings: r of them, of one recipe, their sets alike (:func:`alike`).
        device: where they are trained.

    Raises:
        RuntimeError: in a pass, where ``vmap`` cannot do what the network does, such as dropout.
    """

    def __init__(self, trainings: Sequence[TrainingJob], device: torch.device):
        networks, self.rngs = zip(*(training.begin(device) for training in trainings), strict=True)
        self.skeleton: nn.Module = networks[0]  # its own weights are never used
        stacked, self.buffers = stack_module_state(list(networks))
        self.parameters: dict[str, Tensor] = {
            name: values.detach() for name, values in stacked.items()
        }
        self.rates = [training.lr for training in trainings]
        self.apart = len(set(self.rates)) > 1
        self.spec, self.soft = trainings[0].synthetic.spec, trainings[0].soft
        distinct = {
            id(training.synthetic): training for training in trainings
        }  # one set for all is kept once
        images, labels = zip(
            *(training.inputs(device) for training in distinct.values()), strict=True
        )
        self.images, self.labels = torch.stack(images), torch.stack(labels)
        places = [[*distinct].index(id(training.synthetic)) for training in trainings]
        self.sets = torch.tensor(places, device=device)[:, None]
        self._gradients = vmap(grad(self._loss, has_aux=True))
        self._logits = vmap(self._forward, in_dims=(0, 0, None))

    def groups(self) -> list[dict[str, Any]]:
        """Return what an optimiser is made of: one group, or where the rates differ one per network."""
        if not self.apart:
            return [{"params": self._leaves(None), "lr": self.rates[0]}]
        return [{"params": self._leaves(r), "lr": lr} for r, lr in enumerate(self.rates)]

    def epoch(
        self, optimiser: torch.optim.Optimizer, batch: int, augment: DiffAug | None, cutmix_p: float
    ) -> None:
        """Take every network once through its set, in an order of its own."""
        self.skeleton.train()
        orders = torch.stack(
            [torch.randperm(self.images.shape[1], generator=rng) for rng in self.rngs]
        )
        for rows in to_device(orders, self.images.device).split(batch, dim=1):
            images, labels = self.images[self.sets, rows], self.labels[self.sets, rows]
            mixed = training_batches(images, labels, augment, cutmix_p, self.rngs)
            self.step(optimiser, mixed if self.soft is None else self.soft.of(mixed))

    def step(self, optimiser: torch.optim.Optimizer, batch: TrainingBatch) -> None:
        """Do one optimiser step on every network's own batch; all fields have a first axis r."""
        mixed = () if batch.partners is None else (batch.partners, batch.weight)
        found, self.buffers = self._gradients(
            self.parameters, self.buffers, batch.images, batch.labels, *mixed
        )
        for r, group in enumerate(optimiser.param_groups):
            for weights, gradient in zip(group["params"], found.values(), strict=True):
                weights.grad = gradient[r] if self.apart else gradient
        optimiser.step()

    def accuracies(self, test: Split, batch: int) -> list[float]:
        """Return every network's accuracy on test images; a pass takes ``batch`` images over all networks."""
        self.skeleton.eval()
        each = max(1, batch // len(self.rngs))
        return accuracies(
            lambda images: self._logits(self.parameters, self.buffers, images),
            self.spec,
            test,
            each,
        )

    def _leaves(self, r: int | None) -> list[Tensor]:
        return [values if r is None else values[r] for values in self.parameters.values()]

    def _forward(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor
    ) -> Tensor:
        logits: Tensor = functional_call(self.skeleton, (parameters, buffers), (images,))
        return logits

    def _loss(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], *batch: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return one network's loss and its buffers after the pass; batch norm moves its own in place."""
        moved = {name: values.clone() for name, values in buffers.items()}
        temperature = 1.0 if self.soft is None else self.soft.temperature
        loss = TrainingBatch(*batch, temperature=temperature).cross_entropy(
            self._forward(parameters, moved, batch[0])
        )
        return loss, moved


def can_stack(trainings: Sequence[TrainingJob]) -> bool:
    """Tell whether the sets are of one size and form and one normalisation, so that networks can be stacked."""
    first, *others = (training.synthetic for training in trainings)
    return all(
        other is first
        or (other.images.shape, other.labels.shape, other.factor, other.spec)
        == (first.images.shape, first.labels.shape, first.factor, first.spec)
        for other in others
    )


def choose_stack_size(
    stack: bool | str,
    trainings: Sequence[TrainingJob],
    device: torch.device,
    batch: int,
    briefly: Callable[[Sequence[TrainingJob]], object],
) -> int:
    """Return how many networks to train at once.

    Args:
        stack: true for all, false for one, auto for one on a CPU and the measured best elsewhere:
            measured once in a process per architecture, size of the set, number of networks and
            device.
        trainings: what is to be done.
        device: where.
        batch: images per step.
        briefly: trains a stack of networks, or one alone, for :data:`STEPS` epochs.
    """
    count = len(trainings)
    if (
        count == 1
        or stack is False
        or (stack == "auto" and device.type == "cpu")
        or not can_stack(trainings)
    ):
        return 1
    if stack is True:
        return count
    recipe, synthetic = trainings[0].recipe, trainings[0].synthetic
    key = (repr(recipe), synthetic.images.shape, synthetic.factor, batch, count, str(device))
    if key not in _measured:
        short = [training.shortened(batch) for training in trainings]
        _measured[key] = _measure(short, device, briefly)
        log.info(
            "evaluation trains %d of %d networks %s at once", _measured[key], count, recipe.name
        )
    return _measured[key]


def in_stacks(
    trainings: Sequence[TrainingJob], at_once: int, train: Callable[[Sequence[TrainingJob]], Pairs]
) -> Iterator[tuple[float, float]]:
    """Yield what ``train`` finds of every training, so many at once.

    Stacks that do not fit in memory are begun anew with half as many networks, and networks that
    cannot be stacked one after another; nothing is lost, since every training has a random stream
    of its own.
    """
    done = 0
    while done < len(trainings):
        group = trainings[done : done + at_once]
        try:
            found = train(group)
        except RuntimeError as error:
            if len(group) == 1:
                raise
            at_once = _fewer(len(group), error)
            continue  # outside of this block, where the error no longer holds the stack's memory
        yield from found
        done += len(group)


def _measure(
    trainings: Sequence[TrainingJob],
    device: torch.device,
    briefly: Callable[[Sequence[TrainingJob]], object],
) -> int:
    def step(at_once: int) -> None:
        for begin in range(0, len(trainings), at_once):
            briefly(trainings[begin : begin + at_once])

    try:
        return fastest(len(trainings), step, device, ONE)
    except RuntimeError as error:
        return _fewer(len(trainings), error)


def _fewer(count: int, error: RuntimeError) -> int:
    """Return how many to try after ``count`` at once failed, and say so."""
    if isinstance(error, torch.OutOfMemoryError):
        half = -(-count // 2)
        log.warning(
            "%d networks at once do not fit in the device's memory; going on with %d", count, half
        )
        return half
    log.warning(
        "these networks cannot be stacked, so they are trained in turn: %s", first_line(error)
    )
    return 1
