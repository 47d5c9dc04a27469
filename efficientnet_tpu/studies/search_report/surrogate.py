"""A surrogate of training: accuracy as a function of a network's choices and cost, fitted to the trials of searches.

A ridge regression of the logit of accuracy. Which terms it has and how much they are held down is chosen by leaving
each trial out once; how well it predicts is measured on trials that had no part in the choice either.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from efficientnet_tpu.studies.search.space import CHOICES, Network, SearchSpace, from_tokens, to_tokens
from efficientnet_tpu.studies.search_report.rank_tests import kendall, r_squared, spearman

FEWEST_TRIALS = 20
FOLDS = 10
_PENALTIES = tuple(10.0**exponent for exponent in np.arange(-2, 4.01, 0.5))
_NEAREST = 1e-3  # to 0 and 1: the logit of an accuracy that is neither
# The terms of a model by its name: the cost, the choices of every block, and the pairs of choices of a block.
TERMS = {
    "cost": (True, False, False),
    "choices": (False, True, False),
    "cost and choices": (True, True, False),
    "cost, choices and pairs": (True, True, True),
}


@dataclass(frozen=True)
class HeldOut:
    """Predictions of trials by models that were fitted without them, and how good they are.

    predicted: accuracies, float64 [trials], 0..1. error: the root of the mean squared error, in accuracy.
    """

    predicted: np.ndarray
    spearman: float
    kendall: float
    r_squared: float
    error: float


class Surrogate:
    """A fitted model. Attributes: `terms`, a key of TERMS; `penalty`, of the squared weights."""

    def __init__(
        self, space: SearchSpace, networks: Sequence[Network], accuracies: Sequence[float], terms: str = ""
    ) -> None:
        """Fits the model to trials. terms: a key of TERMS; empty: the best one when each trial is left out once."""
        self._space = space
        truth = _logit(np.array(accuracies, np.float64))
        rows = _Rows.of(space, networks)
        found = min((_fit(rows, truth, name) for name in ([terms] if terms else TERMS)), key=lambda one: one[0])
        _, self.terms, self.penalty, self._weights, self._center, self._intercept = found

    def accuracies(self, networks: Sequence[Network]) -> np.ndarray:
        """Returns the accuracies, 0..1, that the model expects: float64 [networks]."""
        matrix = _matrix(_Rows.of(self._space, networks), self.terms) - self._center
        return 1 / (1 + np.exp(-(self._intercept + matrix @ self._weights)))


@dataclass(frozen=True)
class _Rows:
    """Networks as numbers. tokens: int64 [networks, places]. costs: float64 [networks, terms of the cost]."""

    space: SearchSpace
    tokens: np.ndarray
    costs: np.ndarray

    @classmethod
    def of(cls, space: SearchSpace, networks: Sequence[Network]) -> "_Rows":
        # Logarithms near 0, so that their squares say something else.
        unit = space.cost(from_tokens([0] * len(space.num_values)))
        costs = map(space.cost, networks)
        logs = np.log([(cost.multiply_adds / unit.multiply_adds, cost.params / unit.params) for cost in costs])
        return cls(space, np.array([to_tokens(network) for network in networks]), np.hstack([logs, logs**2]))


@functools.cache
def _places(space: SearchSpace, with_pairs: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Returns, for each group of columns of which a network has one, where it begins, the place of its token, the step
    of that, and the place of the second token (-1: none); and the number of columns.
    """
    groups, begin = [], 0
    for place, number in enumerate(space.num_values):
        groups.append((begin, place, 1, -1))
        begin += number
    for block in range(0, len(space.num_values), len(CHOICES)) if with_pairs else ():
        for first, second in itertools.combinations(range(block, block + len(CHOICES)), 2):
            groups.append((begin, first, space.num_values[second], second))
            begin += space.num_values[first] * space.num_values[second]
    begins, firsts, steps, seconds = map(np.array, zip(*groups, strict=True))
    return begins, firsts, steps, seconds, begin


def _matrix(rows: _Rows, terms: str) -> np.ndarray:
    """Returns the terms of each network as columns, float64 [networks, columns]."""
    with_cost, with_choices, with_pairs = TERMS[terms]
    columns = [rows.costs] if with_cost else []
    if with_choices:
        begins, firsts, steps, seconds, number = _places(rows.space, with_pairs)
        chosen = begins + rows.tokens[:, firsts] * steps + np.where(seconds < 0, 0, rows.tokens[:, seconds])
        matrix = np.zeros((len(rows.tokens), number))
        np.put_along_axis(matrix, chosen, 1.0, axis=1)
        columns.append(matrix)
    return np.hstack(columns)


def _fit(rows: _Rows, truth: np.ndarray, terms: str) -> tuple[float, str, float, np.ndarray, np.ndarray, float]:
    """Returns the mean squared error with each trial left out once, terms, the best penalty, weights, the mean of the
    columns, and the intercept.

    truth: float64 [trials].
    """
    matrix = _matrix(rows, terms)
    center, intercept = matrix.mean(axis=0), float(truth.mean())
    left, sizes, right = np.linalg.svd(matrix - center, full_matrices=False)
    projected = left.T @ (truth - intercept)
    best: tuple[float, float] | None = None
    for penalty in _PENALTIES:
        shares = sizes**2 / (sizes**2 + penalty)
        # What a trial adds to its own prediction; the intercept is a share of it.
        own = 1 / len(truth) + (left**2 * shares).sum(axis=1)
        residuals = (truth - intercept - left @ (shares * projected)) / np.maximum(1 - own, 1e-9)
        error = float((residuals**2).mean())
        if best is None or error < best[0]:
            best = error, penalty
    assert best is not None
    error, penalty = best
    weights = right.T @ (sizes / (sizes**2 + penalty) * projected)
    return error, terms, penalty, weights, center, intercept


def hold_out(
    space: SearchSpace,
    networks: Sequence[Network],
    accuracies: Sequence[float],
    terms: str = "",
    seed: int = 0,
) -> HeldOut:
    """Returns how well models predict trials that were not there when terms and penalty were chosen and weights fitted.

    terms: a key of TERMS; empty: chosen, within each of the FOLDS parts anew. Trials of one network are in one part.
    """
    truth, number = np.array(accuracies, np.float64), {}
    of_network = np.array([number.setdefault(network, len(number)) for network in networks])
    part = np.random.default_rng(seed).permutation(len(number))[of_network] % FOLDS
    predicted = np.zeros_like(truth)
    for fold in range(FOLDS):
        inside = [index for index in range(len(networks)) if part[index] != fold]
        outside = [index for index in range(len(networks)) if part[index] == fold]
        if outside:
            model = Surrogate(space, [networks[index] for index in inside], truth[inside].tolist(), terms)
            predicted[outside] = model.accuracies([networks[index] for index in outside])
    return HeldOut(
        predicted,
        spearman(truth, predicted),
        kendall(truth, predicted),
        r_squared(truth, predicted),
        math.sqrt(float(((truth - predicted) ** 2).mean())),
    )


def _logit(accuracies: np.ndarray) -> np.ndarray:
    """Returns log(p / (1 - p)) of accuracies, float64 [trials]."""
    shares = np.clip(accuracies, _NEAREST, 1 - _NEAREST)
    return np.log(shares / (1 - shares))
