"""Trajectory matching: a student's training steps, differentiated as a whole.

The student starts from an expert's weights θ_0 and takes N steps of SGD on the synthetic images,

    θ_{i+1} = θ_i - α · ∇_θ ℓ(A(S_i), θ_i),

and the loss is L = ‖θ_N - θ*‖² / ‖θ_0 - θ*‖², θ* being the expert's weights some epochs later. L is
differentiated in the images, their labels and α, through all N steps.

Source: MTT, arXiv 2203.11932, algorithm 1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from dcond.augment import DiffAug
from dcond.augment.diffaug import Draw
from dcond.device import to_device
from dcond.rng import seeded_layers

StepLoss = Callable[[Sequence[Tensor], int], Tensor]  # ℓ at weights, on the batch of step i


@dataclass(frozen=True, eq=False)
class Matched:
    """The loss of a matched trajectory, detached, and its gradients."""

    loss: Tensor
    gradients: list[Tensor]  # ∂L/∂leaf, in the order of the leaves
    rate: Tensor  # ∂L/∂α


def match_trajectory(
    step_loss: StepLoss,
    start: Sequence[Tensor],
    target: Sequence[Tensor],
    rate: Tensor,
    leaves: Sequence[Tensor],
    steps: int,
    *,
    segment: int | None = None,
    direct: bool = False,
) -> Matched:
    """Return L and its gradients with respect to the leaves and the rate.

    The graph of all N steps needs memory for N forward and backward passes. With ``segment`` = m
    only m steps are held: the student first runs without a graph and saves its weights every m
    steps; then, from the last segment to the first, the steps are computed again with a graph, and
    ∂L/∂θ at the end of a segment gives that at its beginning. This is exact, and costs one more
    forward and backward pass per step.

    Args:
        step_loss: differentiable in the weights and the leaves; the same value whenever it is
            called with the same arguments.
        start: θ_0, one tensor per parameter.
        target: θ*, likewise.
        rate: α, a scalar.
        leaves: what ``step_loss`` is differentiated in: images, labels.
        steps: N ≥ 0.
        segment: m; None for N, the full graph.
        direct: follow only the direct effect of each batch on its own step,
            ∂L/∂S_i ≈ -α · ∂⟨∇ℓ(S_i, θ_i), ∂L/∂θ_N⟩/∂S_i, and not its effect on later steps. This
            is the gradient of TESLA (arXiv 2211.10586), not an exact one. Its memory does not grow
            with N: the student runs to θ_N without a graph, then once more, step by step.
    """
    if direct:
        return _match_directly(step_loss, start, target, rate, leaves, steps)
    segment = segment or max(1, steps)
    parts = [range(at, min(at + segment, steps)) for at in range(0, steps, segment)] or [range(0)]
    starts = [list(start)]
    for part in parts[:-1]:
        starts.append(_student(step_loss, starts[-1], rate.detach(), part, graph=False))
    rate = rate.detach().requires_grad_()
    scale = squared_distance(start, target)
    totals, adjoint, loss = [torch.zeros_like(x) for x in (*leaves, rate)], [], scale
    for part, begin in zip(reversed(parts), reversed(starts), strict=True):
        weights = [w.detach().requires_grad_() for w in begin]
        end = _student(step_loss, weights, rate, part, graph=True)
        if part is parts[-1]:
            loss = squared_distance(end, target).detach() / scale
            adjoint = [2 * (w.detach() - t) / scale for w, t in zip(end, target, strict=True)]
        inputs = [*leaves, rate, *([] if part is parts[0] else weights)]
        found = torch.autograd.grad(end, inputs, adjoint, materialize_grads=True)
        totals = [total + own for total, own in zip(totals, found, strict=False)]
        adjoint = list(found[len(totals) :])
    return Matched(loss, totals[:-1], totals[-1])


def _match_directly(
    step_loss: StepLoss,
    start: Sequence[Tensor],
    target: Sequence[Tensor],
    rate: Tensor,
    leaves: Sequence[Tensor],
    steps: int,
) -> Matched:
    """Return L and the sums of the direct effects of all batches, see :func:`match_trajectory`."""
    scale = squared_distance(start, target)
    end = _student(step_loss, start, rate.detach(), range(steps), graph=False)
    adjoint = [2 * (w.detach() - t) / scale for w, t in zip(end, target, strict=True)]
    rate = rate.detach().requires_grad_()
    totals, weights = [torch.zeros_like(x) for x in (*leaves, rate)], list(start)
    for step in range(steps):
        weights = [w.detach().requires_grad_() for w in weights]
        weights = _student(step_loss, weights, rate, range(step, step + 1), graph=True)
        found = torch.autograd.grad(weights, [*leaves, rate], adjoint, materialize_grads=True)
        totals = [total + own for total, own in zip(totals, found, strict=True)]
    loss = squared_distance(end, target).detach() / scale
    return Matched(loss, totals[:-1], totals[-1])


def _student(
    step_loss: StepLoss, weights: Sequence[Tensor], rate: Tensor, steps: range, *, graph: bool
) -> list[Tensor]:
    """Return the weights after some steps, with or without the graph of these steps."""
    weights = list(weights)
    for step in steps:
        if not graph:
            weights = [w.detach().requires_grad_() for w in weights]
        gradients = torch.autograd.grad(
            step_loss(weights, step), weights, create_graph=graph, materialize_grads=True
        )
        weights = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
    return weights


def squared_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """Return ‖θ - θ'‖² over all parameters."""
    parts = [(a - b).square().sum() for a, b in zip(ours, theirs, strict=True)]
    return torch.stack(parts).sum()


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of the student: rows (b,) of the decoded images, and the draw that augments them."""

    rows: Tensor
    draw: Draw | None


def draw_batches(
    count: int,
    size: tuple[int, int],
    steps: int,
    batch: int,
    augment: DiffAug | None,
    order: torch.Generator,
    augmentation: torch.Generator,
) -> list[Batch]:
    """Draw the batches of N steps: without replacement, one augmentation per image.

    As in the public code, a pass over the images begins with its last chunk, which may be short.

    Args:
        count: n, decoded images.
        size: their height and width.
        steps: N.
        batch: images per step; n if it is larger.
        augment: augmentation; None for none.
        order: generator of the order of the images.
        augmentation: generator of the augmentation's parameters.
    """
    batches: list[Batch] = []
    chunks: list[Tensor] = []
    while len(batches) < steps:
        chunks = chunks or list(torch.randperm(count, generator=order).split(batch))
        rows = chunks.pop()
        draw = None if augment is None else augment.draw_per_image(len(rows), size, augmentation)
        batches.append(Batch(rows, draw))
    return batches


def student_loss(
    network: nn.Module,
    names: Sequence[str],
    buffers: Mapping[str, Tensor],
    images: Tensor,
    labels: Tensor,
    batches: Sequence[Batch],
    augment: DiffAug | None,
) -> StepLoss:
    """Return ℓ(weights, i): mean cross-entropy on the augmented batch of step i.

    Args:
        network: computes the logits; its own weights are not used.
        names: of its parameters, in the order of the weights.
        buffers: of the network, by name; each pass gets a copy.
        images: (n, c, h, w), normalised.
        labels: int64 (n,), or logits (n, k), whose softmax is the target.
        batches: one per step.
        augment: applies the draws of the batches.
    """

    def loss(weights: Sequence[Tensor], step: int) -> Tensor:
        batch = batches[step]
        rows = to_device(batch.rows, images.device)
        x, y = images[rows], labels[rows]
        if augment is not None and batch.draw is not None:
            x = augment.apply(x[:, None], batch.draw)[:, 0]
        parameters = dict(zip(names, weights, strict=True))
        own = {name: value.clone() for name, value in buffers.items()}
        # The same draws of dropout wherever the step is computed again.
        with seeded_layers(torch.initial_seed(), f"student/{step}", x.device):
            logits: Tensor = functional_call(network, (parameters, own), (x,))
        return F.cross_entropy(logits, y if y.ndim == 1 else y.softmax(1))

    return loss
