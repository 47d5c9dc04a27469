"""How far a measured accuracy may be from the true one."""

import math

_Z = 1.959963984540054  # of the normal distribution, for 95%


def wilson_interval(accuracy: float, num_images: float) -> tuple[float, float]:
    """The 95% confidence interval (low, high) of an accuracy (0..1) measured on so many images, by Wilson's score.

    It stays within 0 and 1, and holds for few images and for accuracies near 0 and 1, where the usual plus or minus
    does not. Without images it is everything.
    """
    if not num_images:
        return 0.0, 1.0
    share = _Z**2 / num_images
    centre = (accuracy + share / 2) / (1 + share)
    radius = _Z * math.sqrt(accuracy * (1 - accuracy) / num_images + share / (4 * num_images)) / (1 + share)
    return max(0.0, centre - radius), min(1.0, centre + radius)


def with_interval(accuracy: float, num_images: float) -> str:
    """'88.78% (88.15 to 89.38)'"""
    low, high = wilson_interval(accuracy, num_images)
    return f"{accuracy:.2%} ({100 * low:.2f} to {100 * high:.2f})"
