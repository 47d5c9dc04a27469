"""The exponential moving average of a model: a second model of the same build, whose weights trail the first's.

Batch norm's moving statistics are averaged like the weights, as in the reference; Keras' `use_ema` leaves them out and
knows no ramp. A whole model rather than shadow variables, so that it can be evaluated, saved and exported as it is.
"""

import keras
import tensorflow as tf


def decay_at(step: tf.Tensor, decay: float) -> tf.Tensor:
    """min(decay, (1 + step) / (10 + step)), float32; `step` counts the updates made, this one included."""
    step = tf.cast(step, tf.float32)
    return tf.minimum(decay, (1.0 + step) / (10.0 + step))


def start(average: keras.Model, model: keras.Model) -> None:
    """Sets the average to the model's weights; before the first step."""
    for shadow, weight in zip(average.weights, model.weights, strict=True):
        shadow.assign(weight)


def update(average: keras.Model, model: keras.Model, step: tf.Tensor, decay: float) -> None:
    """Moves the average towards the model after `step` updates; with decay 0 it becomes the model. In a replica."""
    share = 1.0 - decay_at(step, decay)
    for shadow, weight in zip(average.weights, model.weights, strict=True):
        shadow.assign_sub(share * (shadow - weight))


def synchronize(average: keras.Model) -> None:
    """Gives every replica the mean of the averaged batch norm statistics. Outside a replica, before evaluating.

    Replicas whose batch norm is their own have statistics of their own; the mean is what checkpoints and exports hold.
    """
    for shadow in average.non_trainable_weights:
        shadow.assign(shadow.numpy())
