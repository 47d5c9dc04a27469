"""How far the means of a few trainings may be trusted: what changes with the seed alone is noise. No TensorFlow."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_STEPS = 200  # of the integral, enough for ten digits


@dataclass(frozen=True)
class Noise:
    """The spread of trainings that differ in nothing but the seed: standard deviation and degrees of freedom."""

    deviation: float
    freedom: int

    def radius(self, *counts: int) -> float:
        """Returns half the 95% interval of a mean over so many seeds, or of the difference of two such means.

        Infinite where no network was trained by two seeds.
        """
        if not self.freedom:
            return math.inf
        return t_quantile(0.975, self.freedom) * self.deviation * math.sqrt(sum(1 / count for count in counts))


def pooled_noise(groups: Iterable[Sequence[float]]) -> Noise:
    """Returns the noise of all groups together: three seeds of one network say little, those of all say more.

    groups: the accuracies of each network's trainings. It is taken to be the same for all of them.
    """
    groups = list(groups)
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum((value - statistics.mean(group)) ** 2 for group in groups for value in group)
    return Noise(math.sqrt(squares / freedom) if freedom else 0.0, freedom)


@dataclass(frozen=True)
class Comparison:
    """The difference of two networks' mean accuracies, in points, and half its 95% interval."""

    name: str
    other: str
    difference: float
    radius: float

    @property
    def is_clear(self) -> bool:
        """Returns whether the difference is more than noise."""
        return abs(self.difference) > self.radius

    def sentence(self) -> str:
        """Returns what may be said of the two."""
        if math.isinf(self.radius):
            return (
                f"{self.name} minus {self.other}: {self.difference:+.2f} points; one seed each says nothing of noise."
            )
        low, high = self.difference - self.radius, self.difference + self.radius
        interval = f"{self.name} minus {self.other}: {self.difference:+.2f} points (95%: {low:+.2f} to {high:+.2f})"
        if not self.is_clear:
            return f"{interval}: within the noise, so that which of the two is better stays open."
        better, worse = (self.name, self.other) if self.difference > 0 else (self.other, self.name)
        return f"{interval}: more than noise, {better} is better than {worse}."


def compare(name: str, mine: Sequence[float], other: str, others: Sequence[float], noise: Noise) -> Comparison:
    """Returns the comparison of two networks. mine, others: the accuracies of their trainings, 0..1."""
    difference = statistics.mean(mine) - statistics.mean(others)
    return Comparison(name, other, 100 * difference, 100 * noise.radius(len(mine), len(others)))


def t_quantile(share: float, freedom: int) -> float:
    """Returns the value below which `share` (0.5 or more) of Student's t distribution lies.

    With x = sqrt(freedom) tan(angle) its density becomes a power of the cosine, whose integral has a finite range.
    """

    def integral(end: float) -> float:
        """Returns the integral of cos^(freedom - 1) from 0 to `end`, by Simpson's rule."""
        width = end / _STEPS
        weights = (1 if index in (0, _STEPS) else 4 if index % 2 else 2 for index in range(_STEPS + 1))
        return sum(
            weight * math.cos(width * index) ** (freedom - 1) for index, weight in enumerate(weights)
        ) * (width / 3)  # fmt: skip

    whole = integral(math.pi / 2)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if integral(middle) / whole < 2 * share - 1 else (low, middle)
    return math.sqrt(freedom) * math.tan(low)
