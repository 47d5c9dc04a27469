"""Rank correlations and a rank test, in NumPy: what a study needs of statistics without another package."""

import math
from collections.abc import Sequence

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """Returns the rank of each value from 1, equals having the mean of their ranks: float64 [n].

    values: float64 [n].
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Returns Spearman's rank correlation of two float64 [n], -1..1; NaN where one of them is constant."""
    first, second = ranks(one) - (len(one) + 1) / 2, ranks(other) - (len(other) + 1) / 2
    norm = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / norm if norm else math.nan


def kendall(one: np.ndarray, other: np.ndarray) -> float:
    """Returns Kendall's tau-b of two float64 [n], -1..1; NaN where one of them is constant."""
    concordant, pairs_of_one, pairs_of_other = 0.0, 0.0, 0.0
    for index in range(len(one) - 1):  # a row at a time: the whole matrix of pairs may be large
        first, second = np.sign(one[index + 1 :] - one[index]), np.sign(other[index + 1 :] - other[index])
        concordant += float(first @ second)
        pairs_of_one += float(first @ first)
        pairs_of_other += float(second @ second)
    norm = math.sqrt(pairs_of_one * pairs_of_other)
    return concordant / norm if norm else math.nan


def r_squared(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the share of the variance of the truth that predictions explain, below 0 where the mean does better.

    truth, predicted: float64 [n].
    """
    total = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - predicted) ** 2).sum()) / total if total else math.nan


def mann_whitney(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Returns the probability that a value of the first sample is above one of the second, ties by half, and the
    two-sided p-value that both are of one distribution.

    Mann & Whitney 1947: exact without ties and below 50 values each, else the normal approximation with its correction
    for ties and for continuity.
    """
    first, second = len(one), len(other)
    pooled = np.array([*one, *other], np.float64)
    statistic = float(ranks(pooled)[:first].sum()) - first * (first + 1) / 2
    share = statistic / (first * second)
    _, counts = np.unique(pooled, return_counts=True)
    if counts.max() == 1 and max(first, second) < 50:
        return share, _exact_p(round(statistic), first, second)
    total = first + second
    ties = float((counts**3 - counts).sum()) / (total * (total - 1))
    deviation = math.sqrt(first * second / 12 * (total + 1 - ties))
    distance = abs(statistic - first * second / 2) - 0.5
    return share, min(1.0, math.erfc(distance / deviation / math.sqrt(2))) if deviation else 1.0


def _exact_p(statistic: int, first: int, second: int) -> float:
    """Returns the two-sided p-value of the statistic U of two samples without ties."""
    # The numbers of orders with each U are the coefficients of a Gaussian binomial: the product of
    # (1 - x^(second + i)) / (1 - x^i) for i = 1 .. first. In Python's integers, which are exact.
    size = first * second + 1
    orders = [1] + [0] * (size - 1)
    for index in range(1, first + 1):
        for power in range(size - 1, second + index - 1, -1):
            orders[power] -= orders[power - second - index]
        for power in range(index, size):
            orders[power] += orders[power - index]
    tail = min(statistic, size - 1 - statistic)
    return min(1.0, 2 * sum(orders[: tail + 1]) / sum(orders))
