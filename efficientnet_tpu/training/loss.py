"""The training loss: cross-entropy with label smoothing and class weights, and the weights that L2 decays."""

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.models.layers import BatchNormalization


def smoothed_cross_entropy(
    targets: tf.Tensor, logits: tf.Tensor, label_smoothing: float, class_weights: np.ndarray | None = None
) -> tf.Tensor:
    """Returns the cross-entropy against (1 - smoothing) * targets + smoothing / num_classes: float32 [batch], nats.

    targets: float32 [batch, num_classes], shares of the classes in an image, which sum to 1.
    logits: float [batch, num_classes].
    label_smoothing: 0..1, Szegedy et al. 2016, arXiv:1512.00567. Smoothing and mixing commute, since shares sum to 1.
    class_weights: float32 [num_classes]; each part of a mixture, as smoothed, is multiplied by the weight of its class.
    """
    logits = tf.cast(logits, tf.float32)  # bfloat16 has 8 significant bits, too few for a loss
    if class_weights is None:
        smoothed = targets * (1 - label_smoothing) + label_smoothing / logits.shape[-1]
        return tf.nn.softmax_cross_entropy_with_logits(smoothed, logits)
    # Each part of a mixture is smoothed over all classes, and weighted by its own class.
    targets *= class_weights
    total = tf.reduce_sum(targets, axis=-1, keepdims=True)
    smoothed = targets * (1 - label_smoothing) + total * label_smoothing / logits.shape[-1]
    # TensorFlow's cross-entropy has the right gradient only for targets that sum to 1.
    return -tf.reduce_sum(smoothed * tf.nn.log_softmax(logits), axis=-1)


def decayed_weights(model: keras.Model) -> list[keras.Variable]:
    """Returns the weights under L2: all trained weights but those of batch norm. Biases decay, as in the reference."""
    spared = {id(w) for layer in model.layers if isinstance(layer, BatchNormalization) for w in layer.weights}
    return [weight for weight in model.trainable_variables if id(weight) not in spared]
