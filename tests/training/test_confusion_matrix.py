"""Confusions are counted by label and prediction, on any number of devices."""

import numpy as np


def test_counts_are_those_of_numpy(tf):
    from efficientnet_tpu.training.confusion_matrix import MOST_CLASSES, make_confusion

    strategy = tf.distribute.get_strategy()
    matrix = make_confusion(strategy, 4)
    random = np.random.default_rng(0)
    expected = np.zeros((4, 4))
    for _ in range(2):
        labels, logits = random.integers(0, 4, 9).astype(np.int32), random.normal(size=(9, 4)).astype(np.float32)
        weights = random.integers(0, 2, 9).astype(np.float32)
        matrix.update_state(tf.constant(labels), tf.constant(logits), tf.constant(weights))
        np.add.at(expected, (labels, logits.argmax(axis=1)), weights)
    np.testing.assert_array_equal(matrix.result(), expected)
    matrix.reset_state()
    assert matrix.result().numpy().sum() == 0
    assert make_confusion(strategy, MOST_CLASSES + 1) is None
