"""What an exported model says of images, beside what its run says: the figures, and whether they are good enough."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# Probabilities of a float32 model; other kernels, and weights with batch norm folded in, round otherwise.
TOLERANCE = 1e-4
_BATCH = 16
_TIMED_CALLS = 10


@dataclass(frozen=True)
class Comparison:
    """largest_difference: of any probability. agreement: of the most probable class, 0..1; sure_agreement: on the
    images to one class of which the run gives more than half, since others change with any rounding. accuracy,
    run_accuracy: top-1, 0..1; None without labels. latency_ms: the quickest of some calls with one image.
    """

    largest_difference: float
    agreement: float
    sure_agreement: float
    accuracy: float | None
    run_accuracy: float | None
    latency_ms: float

    @property
    def lost_points(self) -> float:
        """Percentage points of accuracy; of agreement on sure images, where there are no labels."""
        if self.accuracy is None or self.run_accuracy is None:
            return 100 * (1 - self.sure_agreement)
        return 100 * (self.run_accuracy - self.accuracy)


def compare(
    probabilities: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    expected: np.ndarray,
    labels: np.ndarray | None,
) -> Comparison:
    """images: uint8 [count, size, size, 3]; expected: the run's float32 [count, num_classes]; labels: int32 [count]."""
    found = in_batches(probabilities, images)
    top, top_of_run = found.argmax(axis=1), expected.argmax(axis=1)
    sure = expected.max(axis=1) > 0.5
    sure |= ~sure.any()  # where it is sure of none, all count
    return Comparison(
        largest_difference=largest_difference(found, expected),
        agreement=float((top == top_of_run).mean()),
        sure_agreement=float((top == top_of_run)[sure].mean()),
        accuracy=None if labels is None else float((top == labels).mean()),
        run_accuracy=None if labels is None else float((top_of_run == labels).mean()),
        latency_ms=_latency_ms(lambda: probabilities(images[:1])),
    )


def in_batches(function: Callable[[Sequence], np.ndarray], items: Sequence) -> np.ndarray:
    """The results of all items, joined; little memory whatever their number."""
    parts = [np.asarray(function(items[first : first + _BATCH])) for first in range(0, len(items), _BATCH)]
    return np.concatenate(parts)


def largest_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """nan where a probability is no number, so that it passes no test."""
    return float(np.abs(found - expected).max())


def fault_of(comparison: Comparison, quantised: bool, max_lost_points: float) -> str:
    """Why the artefact must not be used; empty where it may be."""
    difference = comparison.largest_difference
    if not quantised:
        if difference <= TOLERANCE:
            return ""
        return f"its probabilities differ from the run's by {difference:.2g}, more than {TOLERANCE:g}"
    if np.isfinite(difference) and comparison.lost_points <= max_lost_points:
        return ""
    if comparison.accuracy is None:
        lost = f"disagrees with the run on {comparison.lost_points:.1f} % of the images that it is sure of"
    else:
        lost = f"loses {comparison.lost_points:.1f} points of top-1 accuracy"
    return f"{lost}, more than --max_accuracy_drop={max_lost_points:g}"


def _latency_ms(call: Callable[[], object]) -> float:
    times = []
    for _ in range(_TIMED_CALLS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1e3 * min(times)
