"""Means and intervals of accuracies."""

import math

import pytest

from dcond.evaluation.results import EvalResult, NetworkResult
from dcond.stats import Estimate

T_TABLE = {
    2: 12.706,
    3: 4.303,
    4: 3.182,
    5: 2.776,
    10: 2.262,
    30: 2.045,
}  # t(0.975, R - 1), from printed tables


@pytest.mark.parametrize(("count", "quantile"), T_TABLE.items())
def test_the_interval_is_the_t_tables(count, quantile):
    values = [0.5 + 0.01 * i for i in range(count)]
    mean = sum(values) / count
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    assert Estimate(tuple(values)).ci95 == pytest.approx(
        quantile * std / math.sqrt(count), rel=3e-4
    )


def test_one_value_has_no_interval():
    assert Estimate((0.5,)).ci95 is None


def test_a_networks_entry():
    entry = NetworkResult((0.5, 0.7, 0.6), 0.01, 300, 2.5).as_dict()
    assert entry == {
        "accuracies": [0.5, 0.7, 0.6],
        "mean": pytest.approx(0.6),
        "std": pytest.approx(0.1),  # divided by R - 1
        "ci95": pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-3),
        "lr": 0.01,
        "epochs": 300,
        "wall_s": 2.5,
        "lr_search": None,
        "best_over_epochs_on_test": None,
    }


def test_std_and_interval_of_one_repeat_are_null():
    entry = NetworkResult((0.5,), 0.01, 300, 2.5).as_dict()
    assert entry["mean"] == 0.5
    assert entry["std"] is None
    assert entry["ci95"] is None


def test_the_average_is_over_networks_not_over_repeats():
    one, two = NetworkResult((0.2, 0.4, 0.6), 0.01, 1, 1.0), NetworkResult((0.8,), 0.01, 1, 2.0)
    found = EvalResult("quick", {"one": one, "two": two})
    assert found.average == pytest.approx(0.6)
    assert found.wall_s == 3.0
    assert found.as_dict()["average"] == found.average
