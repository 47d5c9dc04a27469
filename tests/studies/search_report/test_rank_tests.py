"""Rank correlations and Mann and Whitney's test against values by hand, published tables and counting all orders."""

import itertools
import math

import numpy as np
import pytest

from efficientnet_tpu.studies.search_report.rank_tests import kendall, mann_whitney, r_squared, ranks, spearman


def array(*values):
    return np.array(values, np.float64)


def test_ranks_of_equals_are_the_mean_of_theirs():
    assert ranks(array(10, 30, 20, 20)).tolist() == [1, 4, 2.5, 2.5]


def test_correlations_of_a_known_order():
    one, other = array(1, 2, 3, 4, 5), array(2, 1, 4, 3, 5)
    assert spearman(one, other) == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert kendall(one, other) == pytest.approx((8 - 2) / 10)
    assert spearman(one, -one) == kendall(one, -one) == -1
    assert kendall(array(1, 2, 3, 3), array(1, 3, 2, 2)) == pytest.approx(1 / 5)  # a tie in both is no pair of either
    assert math.isnan(spearman(one, array(1, 1, 1, 1, 1)))
    assert math.isnan(kendall(one, array(1, 1, 1, 1, 1)))


def test_r_squared():
    truth = array(1, 2, 3)
    assert r_squared(truth, truth) == 1
    assert r_squared(truth, array(2, 2, 2)) == 0
    assert r_squared(truth, array(3, 2, 1)) == -3


@pytest.mark.parametrize(("first", "second"), [(1, 1), (2, 3), (4, 4), (5, 3)])
def test_the_exact_test_counts_all_orders(first, second):
    """Every choice of places for the first sample has the same probability."""
    total = first + second
    found = {}
    for places in itertools.combinations(range(total), first):
        others = [place for place in range(total) if place not in places]
        found[places] = sum(one > other for one in places for other in others), mann_whitney(places, others)
    counts = [count for count, _ in found.values()]
    for count, (share, p) in found.values():
        assert share == count / (first * second)
        tail = min(count, first * second - count)
        expected = sum(min(other, first * second - other) <= tail for other in counts) / len(counts)
        assert p == pytest.approx(expected if 2 * tail < first * second else 1)


def test_published_critical_values():
    """Two-sided, 5%, from the usual tables of U: 127 for 20 and 20 values, 23 for 10 and 10, is the largest."""
    for size, critical in ((20, 127), (10, 23)):
        assert _p_of(critical, size) <= 0.05 < _p_of(critical + 1, size)


def _p_of(statistic, size):
    """The p-value of two samples of `size` values whose U is `statistic`."""
    over, rest = divmod(statistic, size)
    # `over` values are above all the others, one above `rest` of them, and the rest above none.
    one = [size + 1 + index for index in range(over)] + [rest + 0.5] * bool(rest)
    one += [-index for index in range(size - len(one))]
    share, p = mann_whitney(one, [index + 1 for index in range(size)])
    assert share * size * size == pytest.approx(statistic)
    return p


def test_ties_and_large_samples_are_approximated():
    one, other = [float(index) for index in range(60)], [index + 3.5 for index in range(60)]
    share, p = mann_whitney(one, other)
    deviation = math.sqrt(60 * 60 * 121 / 12)
    assert p == pytest.approx(math.erfc((abs(share * 3600 - 1800) - 0.5) / deviation / math.sqrt(2)))
    assert mann_whitney([1, 2, 2], [2, 2, 3])[0] == pytest.approx((0.5 * 4) / 9)
    assert mann_whitney([1, 1], [1, 1]) == (0.5, 1.0)
