"""A surrogate finds the formula that trials were made by, and says how well on trials that it has not seen."""

import random

import numpy as np
import pytest

from efficientnet_tpu.studies.search.study import make_algorithm
from efficientnet_tpu.studies.search_report import comparison, surrogate
from efficientnet_tpu.studies.search_report.rank_tests import mann_whitney, spearman
from efficientnet_tpu.studies.search_report.surrogate import Surrogate
from tests.support.synthetic_search import make_facts, make_trials, true_accuracy

FACTS = make_facts("random")
SPACE = FACTS.space


@pytest.fixture(scope="module")
def trials():
    found = make_trials(FACTS, 300)
    return [trial.network for trial in found], [trial.accuracy for trial in found]


@pytest.mark.slow
def test_it_predicts_networks_that_it_has_not_seen(trials):
    model = Surrogate(SPACE, *trials)
    generator = random.Random("others")
    others = [SPACE.sample(generator) for _ in range(200)]
    truth = np.array([true_accuracy(SPACE, network) for network in others])
    predicted = model.accuracies(others)
    assert spearman(truth, predicted) > 0.9
    assert np.abs(truth - predicted).mean() < 0.03
    held_out = surrogate.hold_out(SPACE, *trials, model.terms)
    # What it says of itself is what others find, on truths that chance has not moved.
    assert held_out.spearman == pytest.approx(spearman(truth, predicted), abs=0.08)
    assert held_out.kendall < held_out.spearman
    assert 0 < held_out.r_squared < 1


@pytest.mark.slow
def test_trials_that_say_nothing_predict_nothing(trials):
    networks, accuracies = trials
    shuffled = random.Random(1).sample(accuracies, len(accuracies))
    held_out = surrogate.hold_out(SPACE, networks, shuffled, "cost and choices")
    assert abs(held_out.spearman) < 0.2
    assert held_out.r_squared < 0.05


def test_leaving_one_out_is_what_it_says(trials):
    """The error by the formula is that of as many fits, each without one trial."""
    networks, accuracies = trials[0][:40], trials[1][:40]
    rows = surrogate._Rows.of(SPACE, networks)
    truth = np.log(np.array(accuracies) / (1 - np.array(accuracies)))
    error, _, penalty, *_ = surrogate._fit(rows, truth, "cost")
    matrix, residuals = surrogate._matrix(rows, "cost"), []
    for index in range(40):
        inside = np.arange(40) != index
        center, mean = matrix[inside].mean(axis=0), truth[inside].mean()
        centered = matrix[inside] - center
        weights = np.linalg.solve(
            centered.T @ centered + penalty * np.eye(centered.shape[1]), centered.T @ (truth[inside] - mean)
        )
        residuals.append(truth[index] - mean - (matrix[index] - center) @ weights)
    assert error == pytest.approx(np.mean(np.square(residuals)))


def test_a_row_has_a_column_of_every_group(trials):
    rows = surrogate._Rows.of(SPACE, trials[0][:5])
    matrix = surrogate._matrix(rows, "cost, choices and pairs")[:, 4:]
    assert matrix.shape[1] == sum(SPACE.num_values) + 7 * 119  # pairs of 4, 2, 2, 3, 3, 3 values
    assert (matrix.sum(axis=1) == len(SPACE.num_values) + 7 * 15).all()
    # Two networks share the column of a pair exactly where they share both choices.
    one, other = rows.tokens[0], rows.tokens[1]
    same = sum(
        one[first] == other[first] and one[second] == other[second]
        for block in range(0, 42, 6)
        for first in range(block, block + 6)
        for second in range(first + 1, block + 6)
    )
    assert (matrix[0] * matrix[1])[sum(SPACE.num_values) :].sum() == same


def reward(network, off):
    return FACTS.objective.reward(true_accuracy(SPACE, network) + off, SPACE.cost(network).multiply_adds)


def test_a_search_keeps_what_it_was_told_is_best():
    rewards, chosen = comparison.search(make_algorithm("random", SPACE, 1), reward, 40, 0.0, 1)
    assert chosen == [max(rewards[: end + 1]) for end in range(40)]
    noisy, chosen = comparison.search(make_algorithm("random", SPACE, 1), reward, 40, 0.5, 1)
    assert noisy == rewards
    assert chosen[-1] in rewards
    assert chosen[-1] < max(rewards)


@pytest.mark.slow
def test_ppo_and_evolution_find_more_than_random_search(tf):
    found = comparison.compare(SPACE, reward, 5, 200)
    for name in ("ppo", "evolution"):
        share, p = mann_whitney(found[name].chosen[:, -1], found["random"].chosen[:, -1])
        assert share > 0.9
        assert p < 0.05
