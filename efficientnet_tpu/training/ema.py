"""The exponential moving average (EMA) of a model: a second model of the same build, with the averaged weights.

The moving statistics of batch norm are averaged like the weights, as in the reference. Keras' `use_ema` leaves them out
and has no ramp. A whole model rather than shadow variables, so that it can be evaluated, saved and exported.
"""

import keras
import tensorflow as tf


def decay_at(step: tf.Tensor, decay: float) -> tf.Tensor:
    """Returns min(decay, (1 + step) / (10 + step)), scalar float32, as tf.train.ExponentialMovingAverage does.

    step: int scalar, the number of updates including this one.
    """
    # A constant .9999 would keep 37% of the random initial weights after 10,000 steps.
    step = tf.cast(step, tf.float32)
    return tf.minimum(decay, (1.0 + step) / (10.0 + step))


def start(average: keras.Model, model: keras.Model) -> None:
    """Sets the weights of the average to those of the model, before the first step."""
    for shadow, weight in zip(average.weights, model.weights, strict=True):
        shadow.assign(weight)


def update(average: keras.Model, model: keras.Model, step: tf.Tensor, decay: float) -> None:
    """Moves the average towards the model, in a replica; with decay 0 the average becomes the model.

    step: int scalar, the number of updates including this one.
    """
    # `weights` includes moving statistics, which are not trainable.
    share = 1.0 - decay_at(step, decay)
    for shadow, weight in zip(average.weights, model.weights, strict=True):
        shadow.assign_sub(share * (shadow - weight))


def synchronize(average: keras.Model) -> None:
    """Gives every replica the mean of the batch norm statistics. Call it outside a replica.

    Replicas whose batch norm is not synchronized have statistics of their own. Checkpoints and exports hold the mean.
    """
    for shadow in average.non_trainable_weights:
        # Outside a replica, reading a variable that differs between replicas is the mean over them.
        shadow.assign(shadow.numpy())
