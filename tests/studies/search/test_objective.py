"""The objective of the search: both published forms, and the Pareto front."""

import random

import pytest

from efficientnet_tpu.studies.search.objective import (
    EXPONENTS,
    SOFT_EXPONENT,
    Objective,
    best_so_far,
    make_objective,
    pareto_front,
)


def test_the_soft_form_is_the_papers():
    objective = Objective()
    assert objective.reward(0.75, 400e6) == 0.75
    assert objective.reward(0.75, 800e6) == pytest.approx(0.75 * 2**-0.07)
    # MnasNet, section 3: twice the cost is worth 5% relative accuracy.
    assert objective.reward(0.75 * 1.05, 800e6) == pytest.approx(objective.reward(0.75, 400e6), rel=1e-3)
    assert SOFT_EXPONENT == -0.07


def test_the_hard_form_counts_accuracy_alone_within_the_target():
    objective = make_objective("hard", 100.0)
    assert objective.reward(0.6, 20) == objective.reward(0.6, 100) == 0.6
    assert objective.reward(0.6, 150) == pytest.approx(0.4)


@pytest.mark.parametrize("form", EXPONENTS)
@pytest.mark.parametrize("cost", [10.0, 99.0, 101.0, 1e4])
def test_a_better_network_has_no_lower_reward(form, cost):
    objective = make_objective(form, 100.0)
    assert objective.reward(0.5, cost) < objective.reward(0.51, cost)
    assert objective.reward(0.5, cost) >= objective.reward(0.5, 1.1 * cost)


def test_the_front_is_what_no_point_beats():
    generator = random.Random(1)
    points = [(number, generator.random(), generator.choice((1.0, 2.0, 3.0, 4.0))) for number in range(200)]
    front = pareto_front(points)
    beaten = {
        point
        for point in points
        for other in points
        if other[1] >= point[1] and other[2] <= point[2] and other[1:] != point[1:]
    }
    assert sorted(front) == sorted(set(points) - beaten)
    assert [cost for _, _, cost in front] == sorted({cost for _, _, cost in front})
    assert pareto_front([("a", 0.5, 1.0), ("b", 0.5, 1.0)]) == [("a", 0.5, 1.0)]
    assert pareto_front([]) == []


def test_best_so_far():
    assert best_so_far([1.0, 3.0, 2.0, 4.0]) == [1.0, 3.0, 3.0, 4.0]
    assert best_so_far([]) == []
