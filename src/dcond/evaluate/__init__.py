"""Training unlike networks on a set, and what that says of it."""

from dcond.evaluate.baselines import random_subset
from dcond.evaluate.protocol import Protocol
from dcond.evaluate.results import EvalResult, NetworkResult

__all__ = ["EvalResult", "NetworkResult", "Protocol", "random_subset"]
