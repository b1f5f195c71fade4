"""Evaluation: train several network architectures on a set and measure their accuracy.

The names below are imported on first use, so that results can be read without importing torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcond.evaluation.baselines import random_subset as random_subset
    from dcond.evaluation.linear_probe import LinearProbe as LinearProbe
    from dcond.evaluation.protocol import EvaluationProtocol as EvaluationProtocol
    from dcond.evaluation.results import EvalResult as EvalResult
    from dcond.evaluation.results import NetworkResult as NetworkResult
    from dcond.training.teacher import Teacher as Teacher

__all__ = [
    "EvalResult",
    "EvaluationProtocol",
    "LinearProbe",
    "NetworkResult",
    "Teacher",
    "random_subset",
]

_MODULES = {
    "EvalResult": "evaluation.results",
    "EvaluationProtocol": "evaluation.protocol",
    "LinearProbe": "evaluation.linear_probe",
    "NetworkResult": "evaluation.results",
    "Teacher": "training.teacher",
    "random_subset": "evaluation.baselines",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'dcond.evaluation' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dcond.{_MODULES[name]}"), name)
