"""Evaluation: train several network architectures on a set and measure their accuracy."""

from dcond.evaluate.baselines import random_subset
from dcond.evaluate.protocol import EvaluationProtocol
from dcond.evaluate.results import EvalResult, NetworkResult
from dcond.evaluate.teacher import Teacher

__all__ = ["EvalResult", "EvaluationProtocol", "NetworkResult", "Teacher", "random_subset"]
