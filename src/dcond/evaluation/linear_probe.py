"""The linear-probe protocol: logistic regression on the features of frozen networks."""

import logging
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from dcond.device import scaled_batch_size
from dcond.errors import DivergedError
from dcond.evaluation.protocol import BaseProtocol, Rate
from dcond.evaluation.results import NetworkResult
from dcond.evaluation.vmap_training import Pairs, TrainingJob
from dcond.models import Network
from dcond.settings import PositiveFloat, PositiveInt, settings
from dcond.training.accuracy import accuracy
from dcond.training.steps import TrainingBatch
from dcond.types import Split

log = logging.getLogger(__name__)

TOLERANCE = 1e-6  # of the largest entry of the gradient


@settings
class LinearProbe(BaseProtocol):
    """Fit a linear classifier to the features of the set under a frozen network, and test it.

    min over W, b of mean CE(W z + b, y) + penalty / 2 · ‖W‖², with z = embed(x) / s and s² the mean
    square of all features of the set, so that a penalty means the same for every network. The
    minimum is unique in W; the network is in evaluation mode, and no image is augmented.

    Networks should have trained weights (``pool.networks.NAME.weights``, or timm's ``pretrained``);
    others are probed with random weights, a new draw for each repeat. With trained weights repeats
    differ only where their sets do.

    Args:
        penalty: weight of ‖W‖² / 2; scikit-learn's C is 1 / (n · penalty).
        max_steps: L-BFGS steps at most.

    The other arguments are those of :class:`~dcond.evaluation.protocol.BaseProtocol`. A teacher
    labels the decoded images once.

    Example:
        >>> probe = LinearProbe(name="linear_probe", repeats=1)
        >>> probe.evaluate(lambda repeat: synthetic, pool, real.test, seed=0).average
    """

    penalty: PositiveFloat = 0.001
    max_steps: PositiveInt = 1000

    def _train_all(self, jobs: Sequence[TrainingJob], test: Split) -> Iterator[tuple[float, float]]:
        for job in jobs:
            if not job.recipe.pretrained_weights:
                log.info("%s has no trained weights: random features are probed", job.recipe.name)
            network, _ = job.begin(test.device)
            probe = self._fit(network.eval(), job, test.device)
            tested = accuracy(probe, job.synthetic.spec, test, self.test_batch)
            yield tested, tested

    def _result(self, rate: Rate, pairs: Pairs, wall_s: float) -> NetworkResult:
        return NetworkResult(tuple(last for last, _ in pairs), None, None, wall_s)

    @torch.no_grad()
    def _fit(self, network: nn.Module, job: TrainingJob, device: torch.device) -> "Probe":
        """Return the network with a head fitted to the job's set."""
        assert isinstance(network, Network)
        images, labels = job.inputs(device)
        height, width = images.shape[-2:]
        chunk = scaled_batch_size(self.test_batch, height, width, network)
        z = torch.cat([network.embed(part) for part in images.split(chunk)])
        if (soft := job.soft) is not None:
            parts = [soft.of(TrainingBatch(part, labels)).labels for part in images.split(chunk)]
            labels = torch.cat(parts)
        scale = z.square().mean().sqrt().clamp_min(torch.finfo(z.dtype).tiny)
        weight, bias = fit_linear(
            z / scale,
            labels,
            len(job.synthetic.class_names),
            self.penalty,
            temperature=1.0 if job.soft is None else job.soft.temperature,
            max_steps=self.max_steps,
        )
        return Probe(network, weight / scale, bias)


class Probe(nn.Module):
    """A frozen network with another linear head: logits W · embed(x) + b."""

    def __init__(self, network: Network, weight: Tensor, bias: Tensor):
        super().__init__()
        self.network = network
        self.input_side = network.input_side  # bounds the images of a pass
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, k)."""
        return nn.functional.linear(self.network.embed(x), self.weight, self.bias)


def fit_linear(
    z: Tensor,
    labels: Tensor,
    classes: int,
    penalty: float,
    *,
    temperature: float = 1.0,
    max_steps: int = 1000,
) -> tuple[Tensor, Tensor]:
    """Return W (k, d) and b (k,) of the penalised logistic regression, of the type of ``z``.

    Computed by L-BFGS in float64 from W = 0, b = 0, on the CPU where the device has no float64.

    Args:
        z: features (n, d).
        labels: int64 (n,), or soft (n, k).
        classes: k.
        penalty: λ > 0 of λ / 2 · ‖W‖², beside the mean cross-entropy.
        temperature: T; the loss is T² · CE(logits / T, labels).
        max_steps: at most; a fit that has not converged by then is logged.

    Raises:
        DivergedError: the features are not finite.
    """
    if not bool(z.isfinite().all()):
        raise DivergedError(
            "linear_probe: a network's features of the set are not finite; check the weights of "
            "the pool and the images."
        )
    device = torch.device("cpu") if z.device.type == "mps" else z.device
    points, targets = z.to(device, torch.float64), labels.to(device)
    if targets.is_floating_point():
        targets = targets.double()
    batch = TrainingBatch(points, targets, temperature=temperature)
    head = torch.zeros(classes, z.shape[1] + 1, dtype=torch.float64, device=device)
    head.requires_grad_()
    optimiser = torch.optim.LBFGS(
        [head],
        max_iter=max_steps,
        max_eval=2 * max_steps,
        tolerance_grad=TOLERANCE,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        with torch.enable_grad():
            weight, bias = head[:, :-1], head[:, -1]
            logits = nn.functional.linear(points, weight, bias)
            value = batch.cross_entropy(logits) + penalty / 2 * weight.square().sum()
            value.backward()
        return value

    optimiser.step(loss)
    loss()
    assert head.grad is not None
    left = float(head.grad.abs().max())
    if left > 10 * TOLERANCE:
        log.warning("linear_probe: not converged after %d steps (%.1g)", max_steps, left)
    fitted = head.detach().to(z.dtype).to(z.device)
    return fitted[:, :-1], fitted[:, -1]
