"""The objective of the architecture search: accuracy against a cost, as one number or as a Pareto front.

Sources: Tan & Le 2019, section 4 (the soft form, with multiply-adds as cost, T = 400 million and w = -0.07); Tan et al.
2019 (MnasNet), section 3, equations 2 and 3 (both forms). No TensorFlow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

TARGET_MULTIPLY_ADDS = 400e6
# From MnasNet: twice the cost is worth 5% relative accuracy, so that 1.05 * 2^w = 1.
SOFT_EXPONENT = -0.07
T = TypeVar("T")


@dataclass(frozen=True)
class Objective:
    """ACC * (cost / target)^w, where w is `below` up to the target and `above` beyond it.

    target: in the unit of the cost.
    """

    target: float = TARGET_MULTIPLY_ADDS
    below: float = SOFT_EXPONENT
    above: float = SOFT_EXPONENT

    def reward(self, accuracy: float, cost: float) -> float:
        """Returns the reward of a network. accuracy: 0..1. cost: greater than 0, in the unit of the target."""
        share = cost / self.target
        return accuracy * share ** (self.below if share <= 1 else self.above)


# By the names of --search_objective. Hard: a network within the target counts by its accuracy alone, and another loses
# in proportion to what it is over.
EXPONENTS = {"soft": (SOFT_EXPONENT, SOFT_EXPONENT), "hard": (0.0, -1.0)}


def make_objective(form: str, target: float) -> Objective:
    """Returns the objective of a form, a key of EXPONENTS."""
    return Objective(target, *EXPONENTS[form])


def pareto_front(points: Iterable[tuple[T, float, float]]) -> list[tuple[T, float, float]]:
    """Returns the (item, accuracy, cost) that no other beats in one without losing in the other, by rising cost.

    Of equal points the first is returned.
    """
    front: list[tuple[T, float, float]] = []
    for item, accuracy, cost in sorted(points, key=lambda point: (point[2], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((item, accuracy, cost))
    return front


def best_so_far(rewards: Sequence[float]) -> list[float]:
    """Returns the highest reward up to each trial."""
    highest: list[float] = []
    for reward in rewards:
        highest.append(max(reward, highest[-1]) if highest else reward)
    return highest
