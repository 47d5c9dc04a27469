"""A 1x1 convolution and its batch norm as one, with a gradient that reads less memory. TPUs train by it.

The gradient of batch norm by its input y is scale * dz + c1 + c2 * y. Layer by layer it is written once and read twice:
by the convolution's gradients of its input x and of its kernel w. Since y = w x, the share of the last term in these is
(w' c2 w) x and c2 w (x x'): matrices of as many rows as x has channels, six times fewer than y. So neither y nor that
sum is read or written. The result is the same.
"""

from typing import Any

import keras
import tensorflow as tf

from efficientnet_tpu.hardware import placement
from efficientnet_tpu.models.fused.batch_norm_gradient import BatchStatistics, GroupMean
from efficientnet_tpu.models.fused.batch_norm_kernel import FusedBatchNormalization
from efficientnet_tpu.models.fused.layer_inputs import keep_inputs, take_inputs
from efficientnet_tpu.models.layers import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class ExpandingConv2D(keras.layers.Conv2D):
    """Keras' own, 1x1 and without bias. On TPUs it keeps its inputs for its batch norm."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolves [batch, height, width, n] to [batch, height, width, channels]."""
        if placement.on_tpu():
            keep_inputs(self.name, (inputs, tf.convert_to_tensor(self.kernel)))
        return super().call(inputs)


@keras.saving.register_keras_serializable(PACKAGE)
class ExpandingBatchNormalization(FusedBatchNormalization):
    """Batch norm that is computed together with the ExpandingConv2D before it, if that has kept its inputs."""

    convolution_name = ""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the normalized inputs, [batch, height, width, channels]."""
        outputs = super().call(inputs, training=training)
        take_inputs(self.convolution_name)  # evaluation does not use them, and would hold a graph by them
        return outputs

    def normalize_by_batch(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Normalizes by the statistics of this replica's group.

        Args:
            x: float32 [batch, height, width, channels], the convolution's outputs. On TPUs they are not used.

        Returns:
            The outputs, [batch, height, width, channels], and the mean and biased variance, float32 [channels].
        """
        kept = take_inputs(self.convolution_name)
        if kept is None:
            return super().normalize_by_batch(x)
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        return expand_and_normalize(*kept, gamma, beta, self.epsilon, self.group_mean, self.convolution_name)


def expand_and_normalize(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
    group_mean: GroupMean,
    name: str,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Convolves and normalizes by the batch.

    Args:
        inputs: [batch, height, width, n].
        kernel: [1, 1, n, channels], of the inputs' dtype.
        gamma, beta: float32 [channels].
        epsilon: added to the variance.
        group_mean: takes float32 [2, channels] to its mean over the replicas that share statistics.
        name: the convolution's; its operations are named by it, in the gradient too.

    Returns:
        [batch, height, width, channels] of the inputs' dtype, and the mean and biased variance, float32 [channels].
    """

    @tf.custom_gradient
    def normalize(
        x: tf.Tensor, kernel: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, tf.Tensor, tf.Tensor], Any]:
        with tf.name_scope(name):
            y = tf.cast(tf.nn.conv2d(x, kernel, 1, "SAME"), tf.float32)
        count = tf.cast(tf.size(y) // y.shape[-1], tf.float32)
        mean, squares = tf.unstack(
            group_mean(tf.stack([tf.reduce_mean(y, [0, 1, 2]), tf.reduce_mean(tf.square(y), [0, 1, 2])]))
        )
        # Rounding can take the difference below zero where a channel is constant.
        variance = tf.maximum(squares - tf.square(mean), 0.0)
        statistics = BatchStatistics(gamma, beta, mean, variance, epsilon, group_mean)

        def backwards(dz: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
            with tf.name_scope("expansion_bn"):  # plan/hlo_cost.py counts by this name
                dz = tf.cast(dz, tf.float32)
                gradient = statistics.gradient(tf.reduce_sum(dz, [0, 1, 2]), tf.reduce_sum(dz * y, [0, 1, 2]), count)
                dy = tf.cast(dz * statistics.scale + gradient.c1, x.dtype)
            with tf.name_scope(name):
                dx, dkernel = _convolution_gradients(x, kernel, dy, gradient.c2)
            return dx, dkernel, gradient.by_gamma, gradient.by_beta

        z = tf.cast(y * statistics.scale + statistics.shift, x.dtype)
        return (z, mean, variance), backwards

    return normalize(inputs, kernel, gamma, beta)


def _convolution_gradients(
    x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor, c2: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the gradients by x and by the kernel, where the gradient by the output y is dy + c2 * y."""
    weights = tf.cast(kernel[0, 0], tf.float32)
    around = tf.matmul(weights * c2, weights, transpose_b=True)[tf.newaxis, tf.newaxis]
    dx = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(x), filter=kernel, out_backprop=dy, strides=[1, 1, 1, 1], padding="SAME"
    ) + tf.nn.conv2d(x, tf.cast(around, x.dtype), 1, "SAME")
    # Sums in float32, rounded once: where x has a mean, the two parts are large and nearly cancel. It costs nothing,
    # since a TPU rounds the inputs of such a sum to bfloat16 all the same.
    x32 = tf.cast(x, tf.float32)
    products = _gradient_by_kernel(x32, x32)[0, 0]
    dkernel = _gradient_by_kernel(x32, tf.cast(dy, tf.float32)) + tf.matmul(products, weights) * c2
    return dx, tf.cast(dkernel, x.dtype)


def _gradient_by_kernel(x: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    """Returns the sums over all positions of every product of a channel of x and one of dy, [1, 1, n, channels]."""
    return tf.raw_ops.Conv2DBackpropFilter(
        input=x,
        filter_sizes=(1, 1, x.shape[-1], dy.shape[-1]),
        out_backprop=dy,
        strides=[1, 1, 1, 1],
        padding="SAME",
    )
