"""Condense and evaluate with parts that were built in Python: no configuration, no run folder."""

import torch

from dcond import artefact
from dcond.class_matching import in_class_order
from dcond.device import peak_memory_bytes, reset_peak_memory, resolve_device
from dcond.evaluation.protocol import BaseProtocol
from dcond.init.initialisers import Initialiser
from dcond.methods.base import Method
from dcond.models import Pool
from dcond.run.condensation import Condensation, Condensed
from dcond.run.context import oom_as_user_error
from dcond.run.evaluation import Evaluated, EvaluationPlan, Evaluator, describe_storage
from dcond.run.result import RunResult
from dcond.torch_state import usual_torch
from dcond.types import RealData, SyntheticSet


@usual_torch()
@oom_as_user_error({})
def condense(
    real: RealData,
    *,
    method: Method,
    init: Initialiser,
    ipc: int = 1,
    seed: int = 0,
    device: torch.device | str | None = None,
    max_steps: int | None = None,
    show_progress: bool = True,
) -> Condensed:
    """Condense real images by a method that was built in Python; nothing is evaluated or written.

    Args:
        real: the images, see :mod:`dcond.data`.
        method: makes the set.
        init: makes the initial images, see :mod:`dcond.init`.
        ipc: images stored per class.
        seed: of all random streams.
        device: where to compute; None: CUDA, else MPS, else the CPU.
        max_steps: stop before the method's own number of steps.
        show_progress: show a progress bar or log lines.

    Raises:
        DcondError: the data or a setting cannot be used, or the run diverged.

    Example:
        >>> real = Digits(name="digits").load()
        >>> rule = Random()
        >>> condense(real, method=Selection(rule=rule), init=FromReal(rule=rule), ipc=10).synthetic
    """
    condensation = Condensation(
        method=method,
        init=init,
        data=real,
        ipc=ipc,
        seed=seed,
        device=_resolved(device),
        max_steps=max_steps,
        show_progress=show_progress,
    )
    condensed = condensation.run()
    condensed.result.status = "done"
    return condensed


@usual_torch()
@oom_as_user_error({})
def evaluate(
    synthetic: SyntheticSet,
    real: RealData,
    *,
    pool: Pool,
    protocol: BaseProtocol,
    seed: int = 0,
    baselines: bool = True,
    against: SyntheticSet | None = None,
    device: torch.device | str | None = None,
    show_progress: bool = True,
) -> Evaluated:
    """Train networks that were built in Python on a set and test them; only a teacher is cached.

    Args:
        synthetic: the set.
        real: the data set; its test images are tested on, its training images are the baselines.
        pool: the networks.
        protocol: how they are trained. A teacher is cached in ``outputs/cache``.
        seed: of the networks and of the random baselines.
        baselines: also train on random real images in the same storage. Their labels are hard, also
            where those of the set are soft; ``dcond.evaluate`` finds the networks that labelled it.
        against: another set to compare with, on networks that start alike.
        device: where to compute; None: CUDA, else MPS, else the CPU.
        show_progress: show a progress bar or log lines.

    Raises:
        DcondError: a set does not fit the data, or a network the images.

    Example:
        >>> pool = Pool(networks={"MLP": MLP(name="MLP")})
        >>> protocol = EvaluationProtocol(name="mine", epochs=50)
        >>> print(evaluate(synthetic, real, pool=pool, protocol=protocol))
    """
    device = _resolved(device)
    reset_peak_memory(device)
    synthetic = _fitted(synthetic, "the set", real)
    result = RunResult.start()
    result.method, result.dataset = synthetic.metadata.get("method", "unknown"), real.name
    result.seed, result.device = seed, str(device)
    describe_storage(result, synthetic)
    plan = EvaluationPlan(
        protocol=protocol,
        pool=pool,
        seed=seed,
        baselines=baselines,
        against=None if against is None else _fitted(against, "against", real).to(device),
        sanity_checks=True,
    )
    evaluator = Evaluator(plan, real.to(device), show_progress=show_progress)
    evaluated = evaluator.evaluate(synthetic.to(device), result)
    result.cost.peak_memory_bytes = peak_memory_bytes(device)
    result.status = "done"
    return evaluated


def _resolved(device: torch.device | str | None) -> torch.device:
    return device if isinstance(device, torch.device) else resolve_device(device or "auto")


def _fitted(synthetic: SyntheticSet, name: str, real: RealData) -> SyntheticSet:
    """Check a set that was made in Python, and bring its classes into the data set's order."""
    return in_class_order(name, artefact.checked(synthetic, name), real)
