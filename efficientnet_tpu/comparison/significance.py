"""Whether two accuracies differ by more than chance: p-values of exact and of approximate tests."""

import math


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test.

    only_first, only_second: images that one model alone recognizes, of those that both have seen. Where the models are
    equally good, each of these images is a fair coin (McNemar 1947; exact: the binomial distribution).
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    if only_first == only_second:
        return 1.0
    tail = math.fsum(math.exp(_log_binomial(total, count) - total * math.log(2)) for count in range(fewer + 1))
    return min(1.0, 2 * tail)


def two_proportions(first: float, first_images: float, second: float, second_images: float) -> float:
    """Returns the two-sided p-value of the pooled z-test of two accuracies, 0..1, on so many images each.

    For models measured on the same images it errs on the side of no difference: `mcnemar` tells more.
    """
    pooled = (first * first_images + second * second_images) / (first_images + second_images)
    variance = pooled * (1 - pooled) * (1 / first_images + 1 / second_images)
    return math.erfc(abs(first - second) / math.sqrt(2 * variance)) if variance else 1.0


def _log_binomial(total: int, count: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1)
