"""Paired differences."""

import json
import math

import pytest

from dcond.evaluation import EvalResult, NetworkResult
from dcond.evaluation.results import compare


def found(one, two) -> EvalResult:
    return EvalResult(
        "quick", {n: NetworkResult(x, 0.01, 1, 1.0) for n, x in (("one", one), ("two", two))}
    )


def test_differences_are_taken_repeat_by_repeat():
    """Large variation between repeats cancels: the interval is 0.01 ± 4.303·0.01/√3."""
    got = compare(
        found((0.20, 0.52, 0.83), (0.5, 0.5, 0.5)), found((0.20, 0.51, 0.81), (0.6, 0.6, 0.6))
    )
    assert got.networks["one"].values == pytest.approx((0.0, 0.01, 0.02))
    assert got.networks["one"].mean == pytest.approx(0.01)
    assert got.networks["one"].ci95 == pytest.approx(4.303 * 0.01 / math.sqrt(3), rel=1e-3)
    assert not got.networks["one"].clear
    assert got.networks["two"].clear
    assert got.networks["two"].mean == pytest.approx(-0.1)
    assert got.average.values == pytest.approx((-0.05, -0.045, -0.04))
    assert got.average.clear


def test_one_repeat_has_no_interval():
    got = compare(found((0.5,), (0.5,)), found((0.2,), (0.2,)))
    assert (got.average.ci95, got.average.clear) == (None, False)
    assert got.average.mean == pytest.approx(0.3)


def test_the_entry_of_result_json():
    got = compare(found((0.5, 0.6), (0.5, 0.6)), found((0.2, 0.2), (0.2, 0.2)))
    entry = got.networks["one"].as_dict()
    assert entry.keys() == {"differences", "mean", "ci95", "clear"}
    json.dumps(entry, allow_nan=False)


def test_equal_repeats_of_a_linear_probe_count_once():
    """They are one computation, so a difference of one image is not beyond an interval of width 0."""

    def probe(value, other):
        return EvalResult(
            "linear_probe",
            {
                n: NetworkResult(x, None, None, 1.0)
                for n, x in (("one", (value,) * 3), ("two", other))
            },
        )

    got = compare(probe(0.51, (0.4,) * 3), probe(0.50, (0.3,) * 3))
    assert (got.networks["one"].n, got.networks["one"].clear) == (1, False)
    assert (got.average.n, got.average.clear) == (1, False)
    got = compare(probe(0.51, (0.4, 0.5, 0.6)), probe(0.50, (0.3, 0.3, 0.5)))
    assert (got.networks["two"].n, got.average.n) == (3, 3)
    assert got.average.values == pytest.approx((0.055, 0.105, 0.055))
