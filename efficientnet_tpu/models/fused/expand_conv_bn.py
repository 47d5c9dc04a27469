"""1x1 convolution and batch norm as one, with a gradient that reads less memory; what TPUs train by.

The gradient of batch norm by its input y is scale * dz + c1 + c2 * y, which is written, and read twice: by the
convolution's gradients of its input x and of its kernel w. Since y = w x, the last term's share of these is
(w' c2 w) x and c2 w (x x'): matrices of as many rows as x has channels, six times fewer than y. So neither y nor that
sum is read or written; what is computed is the same.
"""

from typing import Any

import keras
import tensorflow as tf

from efficientnet_tpu.models.fused.batch_norm_gradient import BatchNorm, GroupMean
from efficientnet_tpu.models.fused.cpu_gradients import PACKAGE, on_tpu
from efficientnet_tpu.models.fused.layer_inputs import Handover

_inputs = Handover()


@keras.saving.register_keras_serializable(PACKAGE)
class ExpandingConv2D(keras.layers.Conv2D):
    """Keras' own, 1x1 and without bias; on TPUs its batch norm asks for what it was given."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if on_tpu():
            _inputs.leave(self.name, inputs)
        return super().call(inputs)

    def take_inputs(self) -> tf.Tensor | None:
        """The latest inputs, once; None where they are not kept."""
        return _inputs.take(self.name)


def expand_and_normalise(
    inputs: tf.Tensor,
    kernel: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
    group_mean: GroupMean,
    name: str,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """[batch, height, width, n], [1, 1, n, channels], float32 [channels] twice -> [batch, height, width, channels] of
    the inputs' dtype, and mean and biased variance, float32 [channels].

    group_mean: of float32 [2, channels] over the replicas that share statistics. name: the convolution's, under which
    its operations go, in the gradient too.
    """

    @tf.custom_gradient
    def normalise(
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
        norm = BatchNorm(gamma, beta, mean, variance, epsilon, group_mean)

        def backwards(dz: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
            with tf.name_scope("expansion_bn"):
                dz = tf.cast(dz, tf.float32)
                gradient = norm.gradient(tf.reduce_sum(dz, [0, 1, 2]), tf.reduce_sum(dz * y, [0, 1, 2]), count)
                dy = tf.cast(dz * norm.scale + gradient.c1, x.dtype)
            with tf.name_scope(name):
                dx, dkernel = _gradients(x, kernel, dy, gradient.c2)
            return dx, dkernel, gradient.by_gamma, gradient.by_beta

        z = tf.cast(y * norm.scale + norm.shift, x.dtype)
        return (z, mean, variance), backwards

    return normalise(inputs, kernel, gamma, beta)


def _gradients(x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor, c2: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of x and of the kernel, where that of the convolution's output is dy + c2 * output."""
    weights = tf.cast(kernel[0, 0], tf.float32)
    around = tf.matmul(weights * c2, weights, transpose_b=True)[tf.newaxis, tf.newaxis]
    dx = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(x), filter=kernel, out_backprop=dy, strides=[1, 1, 1, 1], padding="SAME"
    ) + tf.nn.conv2d(x, tf.cast(around, x.dtype), 1, "SAME")
    # Sums in float32, rounded once: where x has a mean, the two parts are large and nearly cancel. (Of their inputs a
    # TPU takes bfloat16 all the same, so that this costs nothing.)
    x32 = tf.cast(x, tf.float32)
    products = _by_filter(x32, x32)[0, 0]
    dkernel = _by_filter(x32, tf.cast(dy, tf.float32)) + tf.matmul(products, weights) * c2
    return dx, tf.cast(dkernel, x.dtype)


def _by_filter(x: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    """Gradient of a 1x1 convolution of x by its kernel: sums over positions of every product of channels."""
    return tf.raw_ops.Conv2DBackpropFilter(
        input=x,
        filter_sizes=(1, 1, x.shape[-1], dy.shape[-1]),
        out_backprop=dy,
        strides=[1, 1, 1, 1],
        padding="SAME",
    )
