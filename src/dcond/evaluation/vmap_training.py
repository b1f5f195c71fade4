"""Train several networks of one architecture at once (``vmap``), each as if it were alone."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from dcond.augment import DiffAug
from dcond.device import fastest, is_out_of_memory, to_device
from dcond.errors import first_line
from dcond.models import Recipe
from dcond.rng import generator
from dcond.training.accuracy import accuracies
from dcond.training.steps import SoftLabels, TrainingBatch, training_batches
from dcond.types import Split, SyntheticSet

log = logging.getLogger(__name__)

Pairs = list[tuple[float, float]]  # per network: last-epoch accuracy, best tested accuracy
BENCHMARK_EPOCHS = 5  # per network, when the stack sizes are timed
OUT_OF_MEMORY = (
    "training one network does not fit in the device's memory; use a smaller evaluation.batch."
)

_stack_sizes: dict[tuple[object, ...], int] = {}  # by architecture, sizes and device


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """One network to train.

    Args:
        recipe: recipe of the network.
        synthetic: set to train on.
        seed: seed of the run.
        stream: name of the random stream: initial weights, then order and augmentation of images.
        lr: initial learning rate; None where nothing is trained by steps.
        soft: labels the batches in place of the set's own labels, if given.
    """

    recipe: Recipe
    synthetic: SyntheticSet
    seed: int
    stream: str
    lr: float | None
    soft: SoftLabels | None = None

    def begin(self, device: torch.device) -> tuple[nn.Module, torch.Generator]:
        """Return the untrained network, in train mode, and the generator of all further draws."""
        rng = generator(self.seed, self.stream)
        return self.recipe.build(self.synthetic.spec, rng, device), rng

    @torch.no_grad()  # a method may be optimising the images
    def inputs(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the decoded, normalised images (n·f², c, h, w) and their labels."""
        images, labels = self.synthetic.to(device).decoded()
        return self.synthetic.spec.normalise(images), labels

    def truncated(self, images: int) -> "TrainingJob":
        """Return the same job on at most ``images`` decoded images, but at least one stored one."""
        stored = max(1, images // self.synthetic.factor**2)
        first = {name: getattr(self.synthetic, name)[:stored] for name in ("images", "labels")}
        return replace(self, synthetic=replace(self.synthetic, **first))


class Stack:
    """r networks of one architecture, trained together with one pass per step.

    Each is trained as :func:`~dcond.training.steps.training_step` would train it alone. Weights,
    gradients and buffers (such as batch norm statistics) have a first axis of size r. The optimiser
    is PyTorch's own, since its update is elementwise.

    Args:
        jobs: r jobs of one recipe on compatible sets (:func:`can_stack`).
        device: where to train.

    Raises:
        RuntimeError: in a pass, if the network has an operation that ``vmap`` does not support,
            such as dropout.
    """

    def __init__(self, jobs: Sequence[TrainingJob], device: torch.device):
        networks, self.rngs = zip(*(job.begin(device) for job in jobs), strict=True)
        self.skeleton: nn.Module = networks[0]  # its own weights are not used
        self.input_side = getattr(self.skeleton, "input_side", 0)
        stacked, self.buffers = stack_module_state(list(networks))
        trained = {name for name, own in self.skeleton.named_parameters() if own.requires_grad}
        self.parameters = {name: stacked[name].detach() for name in stacked if name in trained}
        self.frozen = {name: stacked[name].detach() for name in stacked if name not in trained}
        self.rates = [job.lr for job in jobs]
        self.separate = len(set(self.rates)) > 1
        self.spec, self.soft = jobs[0].synthetic.spec, jobs[0].soft
        distinct = {id(job.synthetic): job for job in jobs}  # a shared set is stored once
        images, labels = zip(*(job.inputs(device) for job in distinct.values()), strict=True)
        self.images, self.labels = torch.stack(images), torch.stack(labels)
        indices = [[*distinct].index(id(job.synthetic)) for job in jobs]
        self.sets = torch.tensor(indices, device=device)[:, None]

    def groups(self) -> list[dict[str, Any]]:
        """Return the optimiser's parameter groups: one, or one per network if the rates differ."""
        values = self.parameters.values()
        if not self.separate:
            return [{"params": list(values), "lr": self.rates[0]}]
        return [
            {"params": [value[r] for value in values], "lr": lr} for r, lr in enumerate(self.rates)
        ]

    def epoch(
        self, optimiser: torch.optim.Optimizer, batch: int, augment: DiffAug | None, cutmix_p: float
    ) -> None:
        """Train every network for one epoch on its set, each in its own order."""
        self.skeleton.train()
        count = self.images.shape[1]
        orders = torch.stack([torch.randperm(count, generator=rng) for rng in self.rngs])
        for rows in to_device(orders, self.images.device).split(batch, dim=1):
            images, labels = self.images[self.sets, rows], self.labels[self.sets, rows]
            mixed = training_batches(images, labels, augment, cutmix_p, self.rngs)
            self.step(optimiser, mixed if self.soft is None else self.soft.of(mixed))

    def step(self, optimiser: torch.optim.Optimizer, batch: TrainingBatch) -> None:
        """Do one optimiser step; all fields of ``batch`` have a first axis of size r."""
        mixed = () if batch.partners is None else (batch.partners, batch.weight)
        # Made here: kept in self, it would be a cycle, which holds the memory of the stack.
        differentiate = vmap(grad(self._loss, has_aux=True))
        gradients, self.buffers = differentiate(
            self.parameters, self.frozen, self.buffers, batch.images, batch.labels, *mixed
        )
        for r, group in enumerate(optimiser.param_groups):
            for weights, gradient in zip(group["params"], gradients.values(), strict=True):
                weights.grad = gradient[r] if self.separate else gradient
        optimiser.step()

    def accuracies(self, test: Split, batch: int) -> list[float]:
        """Return each network's accuracy; one pass takes ``batch`` images over all networks."""
        self.skeleton.eval()
        return accuracies(self, self.spec, test, max(1, batch // len(self.rngs)))

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of every network, (r, n, k)."""
        run = vmap(self._forward, in_dims=(0, 0, None))
        values: Tensor = run(self.parameters | self.frozen, self.buffers, images)
        return values

    def _forward(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor
    ) -> Tensor:
        logits: Tensor = functional_call(self.skeleton, (parameters, buffers), (images,))
        return logits

    def _loss(
        self,
        parameters: dict[str, Tensor],
        frozen: dict[str, Tensor],
        buffers: dict[str, Tensor],
        *batch: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return one network's loss and its new buffers; batch norm updates them in place."""
        updated = {name: values.clone() for name, values in buffers.items()}
        temperature = 1.0 if self.soft is None else self.soft.temperature
        logits = self._forward(parameters | frozen, updated, batch[0])
        return TrainingBatch(*batch, temperature=temperature).cross_entropy(logits), updated


def can_stack(jobs: Sequence[TrainingJob]) -> bool:
    """Return whether the sets have equal shapes, factors and normalisation."""
    first, *others = (job.synthetic for job in jobs)

    def form(synthetic: SyntheticSet) -> tuple[object, ...]:
        shapes = synthetic.images.shape, synthetic.labels.shape
        return *shapes, synthetic.factor, synthetic.spec

    return all(other is first or form(other) == form(first) for other in others)


def choose_stack_size(
    stack: bool | Literal["auto"],
    jobs: Sequence[TrainingJob],
    device: torch.device,
    batch: int,
    benchmark: Callable[[Sequence[TrainingJob]], object],
) -> int:
    """Return how many networks to train at once.

    Args:
        stack: True for all, False for one; "auto" for one on a CPU and the fastest size elsewhere,
            timed once in a process per architecture, size of the set, number of networks and
            device.
        jobs: all trainings.
        device: where to train.
        batch: images per step.
        benchmark: trains one network or a stack for :data:`BENCHMARK_EPOCHS` epochs.
    """
    count = len(jobs)
    in_turn = stack is False or (stack == "auto" and device.type == "cpu")
    if count == 1 or in_turn or not can_stack(jobs):
        return 1
    if stack is True:
        return count
    recipe, synthetic = jobs[0].recipe, jobs[0].synthetic
    key = (repr(recipe), synthetic.images.shape, synthetic.factor, batch, count, str(device))
    if key not in _stack_sizes:
        size = _fastest_size([job.truncated(batch) for job in jobs], device, benchmark)
        log.info("evaluation trains %d of %d networks %s at once", size, count, recipe.name)
        _stack_sizes[key] = size
    return _stack_sizes[key]


def in_stacks(
    jobs: Sequence[TrainingJob], size: int, train: Callable[[Sequence[TrainingJob]], Pairs]
) -> Iterator[tuple[float, float]]:
    """Yield the result of every job, trained ``size`` at a time.

    A stack that does not fit in memory is restarted with half as many networks; networks that
    cannot be stacked are trained one after another. Results do not depend on it, since every job
    has its own random stream.
    """
    done = 0
    while done < len(jobs):
        group = jobs[done : done + size]
        try:
            results = train(group)
        except RuntimeError as error:
            if len(group) == 1:
                raise
            size = _smaller_size(len(group), error)
            continue  # outside the except block the error no longer holds the stack's memory
        yield from results
        done += len(group)


def _fastest_size(
    jobs: Sequence[TrainingJob],
    device: torch.device,
    benchmark: Callable[[Sequence[TrainingJob]], object],
) -> int:
    def step(size: int) -> None:
        for begin in range(0, len(jobs), size):
            benchmark(jobs[begin : begin + size])

    try:
        return fastest(len(jobs), step, device, OUT_OF_MEMORY)
    except RuntimeError as error:
        return _smaller_size(len(jobs), error)


def _smaller_size(count: int, error: RuntimeError) -> int:
    """Return and log the stack size to try after ``count`` failed."""
    if is_out_of_memory(error):
        half = -(-count // 2)
        log.warning("%d networks do not fit in the device's memory; training %d", count, half)
        return half
    reason = first_line(error)
    log.warning("these networks cannot be stacked, training one after another: %s", reason)
    return 1
