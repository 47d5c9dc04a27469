"""The confusions of a network, counted while it is evaluated."""

import keras
import tensorflow as tf

MOST_CLASSES = 50  # of more, no picture can be read


class ConfusionMatrix(keras.metrics.Metric):
    """Counts pairs of label and predicted class: float32 [label, prediction]."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(name="confusion")
        self._num_classes = num_classes
        self._counts = self.add_variable((num_classes, num_classes), keras.initializers.Zeros(), name="counts")

    def update_state(self, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> None:
        """Adds a batch: labels int32 [batch]; logits [batch, num_classes]; weights float32 [batch]."""
        predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
        counts = tf.math.confusion_matrix(labels, predicted, self._num_classes, weights, tf.float32)
        self._counts.assign_add(counts)

    def result(self) -> tf.Tensor:
        """Returns the counts since the last reset, float32 [label, prediction]."""
        return tf.convert_to_tensor(self._counts)


def make_confusion(strategy: tf.distribute.Strategy, num_classes: int) -> ConfusionMatrix | None:
    """Makes the count of confusions of a network; None where it has many classes."""
    if num_classes > MOST_CLASSES:
        return None
    with strategy.scope():
        return ConfusionMatrix(num_classes)
