"""Training unlike networks on a set, and what that says of it."""

from dcond.evaluate.baselines import random_subset
from dcond.evaluate.protocol import EvaluationProtocol
from dcond.evaluate.results import EvalResult, NetworkResult
from dcond.evaluate.teacher import Teacher

__all__ = ["EvalResult", "NetworkResult", "EvaluationProtocol", "Teacher", "random_subset"]
