"""keras.applications under tf.function, its weights random."""

import itertools
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from peers.inference_batch import images
from peers.registry import InferenceSettings


def build(settings: InferenceSettings) -> tuple[str, Iterator[np.ndarray]]:
    """Pixels are float32 already."""
    tf.config.threading.set_intra_op_parallelism_threads(settings.workers)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    make = getattr(keras.applications, settings.model.replace("efficientnet-b", "EfficientNetB"))
    model = make(weights=None, input_shape=(settings.size, settings.size, 3))
    spec = tf.TensorSpec([None, settings.size, settings.size, 3], tf.float32)
    function = tf.function(lambda pixels: model(pixels, training=False), input_signature=[spec])
    batch = tf.constant(images(settings), tf.float32)
    return "tf.function", (function(batch).numpy() for _ in itertools.repeat(None))
