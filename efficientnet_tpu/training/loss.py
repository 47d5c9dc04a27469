"""The loss of training: cross-entropy with label smoothing and class weights, and the weights that L2 decays."""

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.models.layers import BatchNormalization


def smoothed_cross_entropy(
    targets: tf.Tensor, logits: tf.Tensor, label_smoothing: float, class_weights: np.ndarray | None = None
) -> tf.Tensor:
    """Cross-entropy against (1 - smoothing) * targets + smoothing / num_classes.

    targets float32 [batch, num_classes] that sum to 1, logits [batch, num_classes] -> float32 [batch]. Smoothing mixed
    targets is mixing smoothed ones, since the shares of a mixture sum to 1. With class_weights, float32 [num_classes],
    each part of a mixture, as smoothed, counts by the weight of its class.
    """
    logits = tf.cast(logits, tf.float32)
    if class_weights is None:
        smoothed = targets * (1 - label_smoothing) + label_smoothing / logits.shape[-1]
        return tf.nn.softmax_cross_entropy_with_logits(smoothed, logits)
    targets *= class_weights
    total = tf.reduce_sum(targets, axis=-1, keepdims=True)
    smoothed = targets * (1 - label_smoothing) + total * label_smoothing / logits.shape[-1]
    # TensorFlow's cross-entropy has a gradient for targets that sum to 1 only.
    return -tf.reduce_sum(smoothed * tf.nn.log_softmax(logits), axis=-1)


def decayed_weights(model: keras.Model) -> list[keras.Variable]:
    """Weights under L2: all that are trained but batch norm's, biases included, as in the reference."""
    spared = {id(w) for layer in model.layers if isinstance(layer, BatchNormalization) for w in layer.weights}
    return [weight for weight in model.trainable_variables if id(weight) not in spared]
