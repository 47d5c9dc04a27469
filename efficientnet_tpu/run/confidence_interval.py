"""The confidence interval of a measured accuracy."""

import math

_Z = 1.959963984540054  # 97.5% quantile of the normal distribution, for a 95% interval


def wilson_interval(accuracy: float, num_images: float) -> tuple[float, float]:
    """Returns the 95% confidence interval (low, high), within 0..1, of an accuracy (0..1) measured on `num_images`.

    Wilson 1927, the score interval. Unlike the normal approximation it holds for few images and for accuracies near 0
    and 1. Without images it is (0, 1).
    """
    if not num_images:
        return 0.0, 1.0
    share = _Z**2 / num_images
    center = (accuracy + share / 2) / (1 + share)
    radius = _Z * math.sqrt(accuracy * (1 - accuracy) / num_images + share / (4 * num_images)) / (1 + share)
    return max(0.0, center - radius), min(1.0, center + radius)


def with_interval(accuracy: float, num_images: float) -> str:
    """Returns an accuracy (0..1) with its interval: '88.78% (88.15 to 89.38)'."""
    low, high = wilson_interval(accuracy, num_images)
    return f"{accuracy:.2%} ({100 * low:.2f} to {100 * high:.2f})"
