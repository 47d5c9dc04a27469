"""Wilson's interval against published values, and what it promises."""

import pytest

from efficientnet_tpu.run.confidence_interval import wilson_interval, with_interval


# Newcombe (1998), Two-sided confidence intervals for the single proportion, table I, method 3.
@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_intervals(right, total, low, high):
    assert wilson_interval(right / total, total) == pytest.approx((low, high), abs=5e-5)


def test_the_ends_are_where_the_accuracy_is_just_not_refused():
    """By definition: a true accuracy at an end is 1.96 of its own standard errors away from the measured one."""
    measured, total = 0.7, 50
    for end in wilson_interval(measured, total):
        assert abs(measured - end) == pytest.approx(1.959963984540054 * (end * (1 - end) / total) ** 0.5)


def test_without_images_everything_is_possible():
    assert wilson_interval(0.0, 0) == (0.0, 1.0)


def test_in_words():
    assert with_interval(0.8878, 10000) == "88.78% (88.15 to 89.38)"
