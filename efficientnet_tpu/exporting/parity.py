"""Compares an exported model with its run on images, and decides whether the differences are small enough."""

import timeit
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from efficientnet_tpu.exporting.classifier import in_batches

# Of probabilities in float32. Other kernels and folded batch norm round differently.
TOLERANCE = 1e-4
BATCH = 16
_BYTE_STEP = 1 / 256  # of a probability as an 8-bit integer, which rounding may change
# A runtime may take one batch and not another, or take it and mix its images up.
_OTHER_BATCHES = (2, 3)
_TIMED_CALLS = 10


@dataclass(frozen=True)
class Parity:
    """The figures of a comparison.

    largest_difference: of any probability. agreement: share of images with the same most probable class, 0..1.
    sure_agreement: the same share among images to one class of which the run gives more than half; on other images any
    rounding may change the class. accuracy, run_accuracy: top-1, 0..1; None without labels. latency_ms: the shortest of
    some calls with one image.
    """

    largest_difference: float
    agreement: float
    sure_agreement: float
    accuracy: float | None
    run_accuracy: float | None
    latency_ms: float

    @property
    def lost_points(self) -> float:
        """Returns percentage points of accuracy, or without labels of agreement on sure images."""
        if self.accuracy is None or self.run_accuracy is None:
            return 100 * (1 - self.sure_agreement)
        return 100 * (self.run_accuracy - self.accuracy)


def compare(
    probabilities: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    expected: np.ndarray,
    labels: np.ndarray | None,
    images_per_call: int = BATCH,
) -> Parity:
    """Compares a model with its run.

    probabilities: uint8 [batch, size, size, 3] -> float32 [batch, num_classes]. images: uint8 [count, size, size, 3].
    expected: the run's probabilities, float32 [count, num_classes]. labels: int32 [count].
    """
    found = in_batches(probabilities, images, images_per_call)
    top, top_of_run = found.argmax(axis=1), expected.argmax(axis=1)
    sure = expected.max(axis=1) > 0.5
    sure |= ~sure.any()  # where it is sure of none, all count
    return Parity(
        largest_difference=largest_difference(found, expected),
        agreement=float((top == top_of_run).mean()),
        sure_agreement=float((top == top_of_run)[sure].mean()),
        accuracy=None if labels is None else float((top == labels).mean()),
        run_accuracy=None if labels is None else float((top_of_run == labels).mean()),
        latency_ms=1e3 * min(timeit.repeat(lambda: probabilities(images[:1]), number=1, repeat=_TIMED_CALLS)),
    )


def batch_problem(probabilities: Callable[[np.ndarray], np.ndarray], images: np.ndarray, quantized: bool) -> str:
    """Returns what is wrong with a model's answers to a few images in one call, or an empty text.

    probabilities: uint8 [batch, size, size, 3] -> float32 [batch, num_classes]. images: uint8 [count, size, size, 3].
    """
    for size in _OTHER_BATCHES:
        batch = np.resize(images, (size, *images.shape[1:]))  # repeated, where there are fewer
        one_by_one = in_batches(probabilities, batch, 1)
        try:
            together = probabilities(batch)
        except Exception as error:  # noqa: BLE001 - every runtime has errors of its own
            return f"it does not take {size} images in one call: {str(error).partition(chr(10))[0]}"
        if together.shape != one_by_one.shape:
            return f"it answers {size} images in one call by an array {list(together.shape)}"
        difference = largest_difference(together, one_by_one)
        if not difference <= TOLERANCE + quantized * _BYTE_STEP:
            return f"its probabilities of {size} images in one call differ from those one by one by {difference:.2g}"
    return ""


def largest_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference of two arrays [count, num_classes], nan if a probability is nan."""
    return float(np.abs(found - expected).max())


def rejection_reason(parity: Parity, quantized: bool, max_lost_points: float) -> str:
    """Returns why the exported model must not be used, or an empty text."""
    difference = parity.largest_difference
    if not quantized:
        if difference <= TOLERANCE:
            return ""
        return f"its probabilities differ from the run's by {difference:.2g}, more than {TOLERANCE:g}"
    if np.isfinite(difference) and parity.lost_points <= max_lost_points:
        return ""
    if parity.accuracy is None:
        lost = f"disagrees with the run on {parity.lost_points:.1f} % of the images that it is sure of"
    else:
        lost = f"loses {parity.lost_points:.1f} points of top-1 accuracy"
    return f"{lost}, more than --max_accuracy_drop={max_lost_points:g}"
