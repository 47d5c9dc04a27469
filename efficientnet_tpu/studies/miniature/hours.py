"""How long trainings take, from those that have ended or a few steps of two networks. No TensorFlow."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """The work of a training: multiply-adds of an image, and images that are trained on."""

    multiply_adds: float
    images: float


@dataclass(frozen=True)
class Speed:
    """Seconds of one core for an image: `fixed` for every network, and `per_multiply_add`. Networks of few channels
    pay most for what does not grow with their multiply-adds.
    """

    fixed: float
    per_multiply_add: float

    def seconds(self, works: Sequence[Work]) -> float:
        """Returns the seconds of one core that trainings take."""
        return sum(work.images * (self.fixed + self.per_multiply_add * work.multiply_adds) for work in works)


def fit_speed(measured: Sequence[tuple[Work, float]]) -> Speed:
    """Returns the line through the seconds per image of trainings, by least squares.

    measured: trainings and the seconds that each took, at least one. Networks of one cost, or seconds that fall as the
    cost grows, give a line through 0.
    """
    costs = [work.multiply_adds for work, _ in measured]
    seconds = [spent / work.images for work, spent in measured]
    if len(set(costs)) > 1:
        slope, fixed = statistics.linear_regression(costs, seconds)
        if slope > 0 and fixed > 0:
            return Speed(fixed, slope)
    return Speed(0.0, sum(seconds) / sum(costs))


def as_hours(seconds: float) -> str:
    """Formats a time: '3.4 hours', '12 minutes'."""
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{max(1, round(seconds / 60))} minutes"
