"""Swish and depthwise convolution, with gradients that are computed otherwise on CPUs, where TensorFlow's are slow.

What runs is chosen while a graph is traced, and is no part of a model: one saved on a CPU is right on a TPU. In
inference, exports included, they are TensorFlow's own.
"""

from typing import Any

import keras
import tensorflow as tf

PACKAGE = "efficientnet_tpu"  # the name under which Keras finds the parts of a saved model again

# oneDNN has a kernel for the gradient by a depthwise filter of up to so many columns. For a wider one it takes that of
# convolutions in groups, which needs seven times as long for the same arithmetic.
_COLUMNS = 3


def on_tpu() -> bool:
    """Whether a graph traced here is run by a TPU."""
    return isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)


def on_cpu() -> bool:
    """Whether a graph traced here is run by a CPU."""
    return not on_tpu() and not tf.config.list_physical_devices("GPU")


@keras.saving.register_keras_serializable(PACKAGE)
class Swish(keras.layers.Layer):
    """x * sigmoid(x). With Keras' Activation, the gradient makes six passes over memory."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return _swish_on_cpu(inputs) if training and on_cpu() else tf.nn.silu(inputs)


@tf.custom_gradient
def _swish_on_cpu(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
    return tf.nn.silu(x), lambda gradient: _swish_gradient(x, gradient)


@tf.function(jit_compile=True, autograph=False)
def _swish_gradient(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """One pass over memory."""
    wide, gate = tf.cast(x, tf.float32), tf.sigmoid(tf.cast(x, tf.float32))
    return tf.cast(tf.cast(gradient, tf.float32) * gate * (1 + wide * (1 - gate)), x.dtype)


@keras.saving.register_keras_serializable(PACKAGE)
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras' own, with a quicker gradient by wide kernels; for padding "same", no bias, no dilation."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if training and on_cpu() and self.kernel_size[1] > _COLUMNS:
            return _depthwise_on_cpu(inputs, tf.convert_to_tensor(self.kernel), self.strides[0])
        return super().call(inputs)


def _depthwise_on_cpu(inputs: tf.Tensor, kernel: tf.Tensor, strides: int) -> tf.Tensor:
    """[batch, height, width, channels], [rows, columns, channels, 1] -> what SAME padding gives."""
    steps = [1, strides, strides, 1]

    @tf.custom_gradient
    def convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def backwards(gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            by_inputs = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=gradient, strides=steps, padding="SAME"
            )
            return by_inputs, _gradient_by_kernel(inputs, kernel.shape, gradient, steps)

        return tf.nn.depthwise_conv2d(inputs, kernel, steps, "SAME"), backwards

    return convolve(inputs, kernel)


def _gradient_by_kernel(
    inputs: tf.Tensor, kernel_shape: tf.TensorShape, gradient: tf.Tensor, steps: list[int]
) -> tf.Tensor:
    """A few columns of the kernel at a time: each group of columns is a narrower kernel over a part of the image."""
    rows, columns, channels, multiplier = kernel_shape
    size, num_steps = tf.shape(inputs)[1:3], tf.shape(gradient)[1:3]
    padding = tf.maximum((num_steps - 1) * steps[1] + (rows, columns) - size, 0)
    around = tf.pad(tf.stack([padding // 2, padding - padding // 2], axis=1), [[1, 1], [0, 0]])
    padded = tf.pad(inputs, around)
    pieces = []
    for first in range(0, columns, _COLUMNS):
        width = min(_COLUMNS, columns - first)
        pieces.append(
            tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=padded[:, :, first : first + (num_steps[1] - 1) * steps[2] + width],
                filter_sizes=(rows, width, channels, multiplier),
                out_backprop=gradient,
                strides=steps,
                padding="VALID",
            )
        )
    return tf.concat(pieces, axis=1)
