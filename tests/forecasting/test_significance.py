"""Significance against hand arithmetic, published quantiles, and the paired t-test that it contains."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.significance import compare

LOSSES = st.lists(st.integers(0, 1000), min_size=4, max_size=40).map(np.array)


def test_the_statistic_is_that_of_hand_arithmetic() -> None:
    first, second = np.array([2.0, 2.0, 8.0, 7.0]), np.array([1.0, 0.0, 5.0, 1.0])
    # Differences 1, 2, 3, 6 of mean 3; autocovariances 14/4 and (2 + 0 + 0)/4, the latter by half.
    result = compare(first, second, lags=1)
    assert result.difference == 3
    # The variance of the mean is (3.5 + 2 * 0.5 * 0.5) / 4 = 1; 2 steps: (4 + 1 - 4 + 2/4) / 4.
    assert result.statistic == pytest.approx(3 * math.sqrt(1.5 / 4))
    assert (result.days, result.lags) == (4, 1)
    # Without autocovariances: 3 / sqrt(3.5 / 4) * sqrt(3 / 4), 2.7775; of t with 3 degrees p is 6.9 %.
    alone = compare(first, second, lags=0)
    assert alone.statistic == pytest.approx(2.7775, abs=1e-4)
    assert alone.p == pytest.approx(0.0691, abs=1e-4)


@given(first=LOSSES, second=LOSSES)
def test_without_autocovariances_it_is_the_paired_t_test(
    first: np.ndarray, second: np.ndarray
) -> None:
    stats = pytest.importorskip("scipy.stats")
    days = min(len(first), len(second))
    first, second = first[:days], second[:days]
    ours = compare(first, second, lags=0)
    if np.ptp(first - second) == 0:
        assert math.isnan(ours.p)
        return
    theirs = stats.ttest_rel(first, second)
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-9, abs=1e-12)
    assert ours.p == pytest.approx(theirs.pvalue, abs=1e-9)


@given(first=LOSSES, second=LOSSES)
def test_the_other_way_round_it_is_the_same_with_the_sign_changed(
    first: np.ndarray, second: np.ndarray
) -> None:
    days = min(len(first), len(second))
    one, other = compare(first[:days], second[:days]), compare(second[:days], first[:days])
    assert one.difference == -other.difference
    assert one.statistic == pytest.approx(-other.statistic, nan_ok=True)
    assert one.p == pytest.approx(other.p, nan_ok=True)


def test_chance_alone_is_rarely_taken_for_a_difference() -> None:
    rng = np.random.default_rng(0)
    weather = rng.normal(0, 1, (2000, 28))  # days that follow one another are alike
    alike = weather[:, 1:] + 0.5 * weather[:, :-1]
    p = [compare(one, np.zeros(27)).p for one in alike]
    # An uncorrected test with lags rejects some 15 % of them, the t-test 19 %.
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.11


def test_days_that_do_not_tell_give_no_probability() -> None:
    assert math.isnan(compare(np.array([1.0, 2.0]), np.array([3.0, 1.0])).p)
    assert math.isnan(compare(np.ones(9), np.zeros(9)).p)
    assert math.isnan(compare(np.empty(0), np.empty(0)).difference)


def test_the_number_of_lags_grows_with_the_cube_root_of_the_days() -> None:
    assert [compare(np.arange(n), np.zeros(n)).lags for n in (8, 26, 27, 28, 64)] == [2, 2, 3, 3, 4]
