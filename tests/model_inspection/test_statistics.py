"""Accuracy by class, confusions and calibration against numbers worked out by hand."""

import numpy as np
import pytest

from efficientnet_tpu.model_inspection.statistics import (
    Predictions,
    calibration,
    class_results,
    confusion_matrix,
    confusions,
    expected_calibration_error,
    mean_class_accuracy,
    mean_f1,
    most_confident_errors,
    ordinary_images,
)

# Four classes, the last without images. Class 0: 3 of 4 right; 1: 1 of 3, two taken for 0; 2: 0 of 1, taken for 3.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2], np.int32)
PREDICTED = np.array([0, 0, 1, 0, 0, 1, 0, 3], np.int32)


def _predictions(labels, predicted, confidences):
    confidences = np.array(confidences, np.float32)
    return Predictions(labels, predicted[:, np.newaxis], confidences[:, np.newaxis], confidences)


def test_results_by_class():
    zero, one, two, three = class_results(LABELS, PREDICTED, 4)
    assert (zero.images, zero.correct, zero.predicted, zero.accuracy, zero.precision) == (4, 3, 5, 0.75, 0.6)
    assert (one.images, one.correct, one.predicted, one.precision) == (3, 1, 2, 0.5)
    assert (one.confusion.predicted, one.confusion.images, one.confusion.share) == (0, 2, pytest.approx(2 / 3))
    assert (two.accuracy, two.precision, two.confusion.predicted) == (0, None, 3)
    assert (three.accuracy, three.precision, three.confusion) == (None, 0, None)
    assert mean_class_accuracy([zero, one, two, three]) == pytest.approx((0.75 + 1 / 3 + 0) / 3)


def test_confusions_come_most_frequent_first():
    found = [(pair.label, pair.predicted, pair.images) for pair in confusions(LABELS, PREDICTED)]
    assert found == [(1, 0, 2), (0, 1, 1), (2, 3, 1)]
    assert confusions(LABELS, LABELS) == []


def test_confusion_matrix():
    expected = [[3, 1, 0, 0], [2, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert confusion_matrix(LABELS, PREDICTED, 4, 900).tolist() == expected
    assert confusion_matrix(LABELS, PREDICTED, 4, 2).tolist() == [[7, 0], [0, 1]]  # two and two classes added up


def test_calibration():
    # Of two bins the lower is closed above: 0.5 belongs to it.
    confidences, correct = np.array([0.5, 0.3, 0.9, 0.7, 0.8, 1.0]), np.array([True, False, True, True, False, True])
    lower, upper = calibration(confidences, correct, bins=2)
    assert (lower.low, lower.high, lower.images, lower.confidence, lower.accuracy) == (0, 0.5, 2, 0.4, 0.5)
    assert (upper.images, upper.confidence, upper.accuracy) == (4, pytest.approx(0.85), 0.75)
    assert expected_calibration_error([lower, upper]) == pytest.approx((2 * 0.1 + 4 * 0.1) / 6)


def test_a_classifier_that_is_as_sure_as_right_has_no_calibration_error():
    draw = np.random.default_rng(0)
    confidences = draw.uniform(0.1, 1, 200_000)
    correct = draw.uniform(size=confidences.size) < confidences
    assert expected_calibration_error(calibration(confidences, correct)) < 0.005
    assert expected_calibration_error(calibration(confidences**0.5, correct)) > 0.05


def test_confidences_out_of_range_by_rounding_are_counted():
    bins = calibration(np.float32([0.0, 1.0000001]), np.array([False, True]))
    assert (bins[0].images, bins[-1].images) == (1, 1)


def test_most_confident_errors():
    predictions = _predictions(LABELS, PREDICTED, [0.9, 0.9, 0.4, 0.9, 0.6, 0.9, 0.6, 0.8])
    assert most_confident_errors(predictions, 3) == [7, 4, 6]
    assert most_confident_errors(predictions, 99) == [7, 4, 6, 2]


def test_f1_is_the_harmonic_mean_of_recall_and_precision():
    results = class_results(LABELS, PREDICTED, 6)
    for one in results:
        if one.correct:
            assert one.f1 == pytest.approx(2 / (1 / one.accuracy + 1 / one.precision))
    assert any(one.f1 is None for one in results)  # a class without images
    assert mean_f1(results) == pytest.approx(np.mean([one.f1 for one in results if one.images]))


def test_ordinary_images_are_at_equal_distances():
    assert ordinary_images(100, 4) == [12, 37, 62, 87]
    assert ordinary_images(3, 24) == [0, 1, 2]
    assert ordinary_images(0, 24) == []
    assert len(set(ordinary_images(25, 24))) == 24
