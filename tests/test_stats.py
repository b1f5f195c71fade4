"""Means, standard deviations and intervals against numpy, scipy and closed forms."""

import math

import numpy as np
import pytest
from scipy import stats

from dcond.stats import Estimate, difference95, is_ahead

FIRST = Estimate((0.90, 0.92, 0.97))
SECOND = Estimate((0.80, 0.81, 0.80, 0.87))


@pytest.mark.parametrize("estimate", [FIRST, SECOND])
def test_mean_std_and_interval(estimate):
    values = np.array(estimate.values)
    assert estimate.n == len(values)
    assert estimate.mean == pytest.approx(values.mean(), rel=1e-12)
    assert estimate.std == pytest.approx(values.std(ddof=1), rel=1e-12)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
    assert estimate.ci95 == pytest.approx((high - low) / 2, rel=1e-12)


def test_one_run_has_no_std_and_no_interval():
    alone = Estimate((0.5,))
    assert (alone.n, alone.mean, alone.std, alone.ci95) == (1, 0.5, None, None)
    assert difference95(alone, FIRST) is None
    assert not is_ahead(Estimate((0.99,)), SECOND)
    assert not is_ahead(FIRST, Estimate((0.1,)))


def test_the_interval_of_a_difference_is_welchs():
    found = stats.ttest_ind(FIRST.values, SECOND.values, equal_var=False).confidence_interval(0.95)
    assert difference95(FIRST, SECOND) == pytest.approx((found.high - found.low) / 2, rel=1e-10)


def test_equal_variances_have_the_closed_form():
    d = 0.01
    one, two = Estimate((0.5 - d, 0.5, 0.5 + d)), Estimate((0.6 - d, 0.6, 0.6 + d))
    assert difference95(one, two) == pytest.approx(
        2.7764451051977987 * d * math.sqrt(2 / 3), rel=1e-9
    )  # t of 4


def test_ahead_means_a_difference_above_the_interval():
    far = difference95(FIRST, FIRST)
    base = FIRST.mean
    above = Estimate(tuple(value + 1.01 * far for value in FIRST.values))
    below = Estimate(tuple(value + 0.99 * far for value in FIRST.values))
    assert above.mean > below.mean > base
    assert is_ahead(above, FIRST)
    assert not is_ahead(below, FIRST)
    assert not is_ahead(FIRST, above)


def test_runs_without_variance():
    assert difference95(Estimate((0.5, 0.5)), Estimate((0.4, 0.4))) == 0
    assert is_ahead(Estimate((0.5, 0.5)), Estimate((0.4, 0.4)))
    assert not is_ahead(Estimate((0.5, 0.5)), Estimate((0.5, 0.5)))
