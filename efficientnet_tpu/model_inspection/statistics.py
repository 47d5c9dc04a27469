"""Figures of a classifier's predictions: accuracy by class, confusions, calibration, errors. Pure arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Predictions:
    """Predictions for N images in stored order, by the k most probable classes of each.

    labels: int32 [N]; classes: int32 [N, k], most probable first; probabilities: float32 [N, k], theirs;
    label_probabilities: float32 [N], of the true class.
    """

    labels: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    label_probabilities: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """Returns the most probable classes, int32 [N]."""
        return self.classes[:, 0]

    @property
    def confidences(self) -> np.ndarray:
        """Returns the probabilities of the most probable classes, float32 [N]."""
        return self.probabilities[:, 0]

    @property
    def correct(self) -> np.ndarray:
        """Returns whether the most probable class is the true one, bool [N]."""
        return self.predicted == self.labels


@dataclass(frozen=True)
class Confusion:
    """A number of images of class `label` that were taken for `predicted`: `share` of that class' images (0..1)."""

    label: int
    predicted: int
    images: int
    share: float


@dataclass(frozen=True)
class ClassResult:
    """The result of one class: its images, how many of them were recognized, how often it was predicted, and the class
    that it was most often taken for (None: no other).
    """

    label: int
    images: int
    correct: int
    predicted: int
    confusion: Confusion | None

    @property
    def accuracy(self) -> float | None:
        """Returns the share of its images that were recognized (recall), 0..1; None without images."""
        return self.correct / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """Returns the share of its predictions that were right, 0..1; None if it was never predicted."""
        return self.correct / self.predicted if self.predicted else None

    @property
    def f1(self) -> float | None:
        """Returns the harmonic mean of recall and precision, 0..1; None without images."""
        return 2 * self.correct / (self.images + self.predicted) if self.images else None


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose confidence is in (low, high]: their mean confidence and accuracy, 0..1, 0 without images."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def confusions(labels: np.ndarray, predicted: np.ndarray) -> list[Confusion]:
    """Returns all pairs of a class and another predicted for it, most images first, equals in the order of labels.

    labels, predicted: int32 [images].
    """
    wrong = labels != predicted
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    sizes = np.bincount(labels)
    order = np.argsort(-counts, kind="stable")
    return [
        Confusion(int(label), int(other), int(count), float(count / sizes[label]))
        for (label, other), count in zip(pairs[order], counts[order], strict=True)
    ]


def class_results(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> list[ClassResult]:
    """Returns the result of every class, in the order of labels. labels, predicted: int32 [images]."""
    images = np.bincount(labels, minlength=num_classes)
    right = np.bincount(labels[labels == predicted], minlength=num_classes)
    times_predicted = np.bincount(predicted, minlength=num_classes)
    worst: dict[int, Confusion] = {}
    for confusion in confusions(labels, predicted):
        worst.setdefault(confusion.label, confusion)
    return [
        ClassResult(label, int(images[label]), int(right[label]), int(times_predicted[label]), worst.get(label))
        for label in range(num_classes)
    ]


def mean_class_accuracy(results: Sequence[ClassResult]) -> float:
    """Returns the mean of the classes' accuracies, 0..1. Classes without images do not count."""
    return float(np.mean([result.accuracy for result in results if result.accuracy is not None]))


def mean_f1(results: Sequence[ClassResult]) -> float:
    """Returns the mean of the classes' F1, 0..1. Classes without images do not count."""
    return float(np.mean([result.f1 for result in results if result.f1 is not None]))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int, side: int) -> np.ndarray:
    """Counts images by class (row) and prediction (column): int64 [side, side].

    labels, predicted: int32 [images]. If `side` is below num_classes, neighboring classes are added up, in order.
    """
    side = min(side, num_classes)
    rows, columns = (np.asarray(of, np.int64) * side // num_classes for of in (labels, predicted))
    return np.bincount(rows * side + columns, minlength=side * side).reshape(side, side)


def calibration(confidences: np.ndarray, correct: np.ndarray, bins: int = CALIBRATION_BINS) -> list[CalibrationBin]:
    """Computes the reliability diagram, in bins of equal width.

    confidences: float32 [images], 0..1. correct: bool [images].
    """
    edges = np.linspace(0, 1, bins + 1)
    numbers = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, bins - 1)
    images = np.bincount(numbers, minlength=bins)
    divisor = np.maximum(images, 1)
    mean_confidences = np.bincount(numbers, confidences, bins) / divisor
    accuracies = np.bincount(numbers, correct, bins) / divisor
    return [
        CalibrationBin(float(low), float(high), int(count), float(confidence), float(accuracy))
        for low, high, count, confidence, accuracy in zip(
            edges[:-1], edges[1:], images, mean_confidences, accuracies, strict=True
        )
    ]


def expected_calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """Returns the mean distance, over images, between the confidence and the accuracy of their bin, 0..1."""
    total = sum(part.images for part in bins)
    return sum(part.images * abs(part.confidence - part.accuracy) for part in bins) / total


def most_confident_errors(predictions: Predictions, count: int) -> list[int]:
    """Returns positions of the wrong predictions of highest confidence, at most `count`, equals in stored order."""
    wrong = np.flatnonzero(~predictions.correct)
    order = np.argsort(-predictions.confidences[wrong], kind="stable")
    return [int(position) for position in wrong[order[:count]]]


def ordinary_images(num_images: int, count: int) -> list[int]:
    """Returns positions at equal distances in stored order, at most `count`: no choice by what was predicted."""
    count = min(count, num_images)
    return [(2 * number + 1) * num_images // (2 * count) for number in range(count)]
