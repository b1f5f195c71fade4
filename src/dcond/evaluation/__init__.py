"""Evaluation: train several network architectures on a set and measure their accuracy.

The names below are imported on first use, so that results can be read without importing torch.
"""

from typing import TYPE_CHECKING

from dcond.lazy import lazy_names

if TYPE_CHECKING:
    from dcond.evaluation.baselines import random_subset as random_subset
    from dcond.evaluation.linear_probe import LinearProbe as LinearProbe
    from dcond.evaluation.protocol import EvaluationProtocol as EvaluationProtocol
    from dcond.evaluation.results import EvalResult as EvalResult
    from dcond.evaluation.results import NetworkResult as NetworkResult
    from dcond.training.teacher import Teacher as Teacher

__getattr__ = lazy_names(
    __name__,
    {
        "EvalResult": "dcond.evaluation.results",
        "EvaluationProtocol": "dcond.evaluation.protocol",
        "LinearProbe": "dcond.evaluation.linear_probe",
        "NetworkResult": "dcond.evaluation.results",
        "Teacher": "dcond.training.teacher",
        "random_subset": "dcond.evaluation.baselines",
    },
)
