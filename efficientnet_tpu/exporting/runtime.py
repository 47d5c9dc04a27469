"""An exported model in its own runtime: pixels in, probabilities out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.data.preprocessing import eval_images
from efficientnet_tpu.exporting.classifier import Classifier
from efficientnet_tpu.exporting.metadata import Card


@dataclass(frozen=True)
class PixelModel:
    """probabilities: uint8 [batch, resolution, resolution, 3] -> float32 [batch, num_classes]."""

    card: Card
    probabilities: Callable[[np.ndarray], np.ndarray]

    def as_classifier(self) -> Classifier:
        """Of image files, which TensorFlow prepares as it does for evaluation."""
        size, padding = self.card.resolution, self.card.eval_crop_padding
        prepare = tf.function(
            lambda encoded: eval_images(encoded, size, padding), input_signature=[tf.TensorSpec([None], tf.string)]
        )
        return Classifier(
            self.card.label_names,
            lambda encoded: tf.constant(self.probabilities(prepare(tf.constant(encoded)).numpy())),
        )
