"""Logits of a few images in little memory."""

import keras
import numpy as np
import tensorflow as tf


def logits_of(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """float32 [n, num_classes] of [n, height, width, 3].

    One image at a time and compiled: called as it is, a Keras model keeps the outputs of all its layers until it is
    done, which for B7 at 600 pixels are gigabytes an image.
    """
    compute = tf.function(lambda image: model(image, training=False))
    return np.concatenate([compute(tf.constant(image[np.newaxis])).numpy() for image in images])
