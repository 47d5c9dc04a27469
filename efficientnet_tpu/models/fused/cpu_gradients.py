"""Swish and depthwise convolution with other gradients on CPUs, where TensorFlow's are slow.

The forward pass is TensorFlow's own. The device is looked up while a graph is traced and is no part of a model: one
saved on a CPU is right on a TPU.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from efficientnet_tpu.hardware import placement
from efficientnet_tpu.models.layers import PACKAGE

# oneDNN has a kernel for the gradient by a depthwise filter of up to 3 columns. For a wider one it takes that of
# grouped convolutions, which needs seven times as long for the same arithmetic.
_COLUMNS = 3


@keras.saving.register_keras_serializable(PACKAGE)
class Swish(keras.layers.Activation):
    """SiLU, x * sigmoid(x), whose gradient makes one pass over memory on CPUs; that of Keras' Activation makes six."""

    def __init__(self, activation: str = "silu", **kwargs: Any):
        super().__init__(activation, **kwargs)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns inputs * sigmoid(inputs), [...] as the inputs."""
        return _swish_on_cpu(inputs) if placement.on_cpu() else super().call(inputs)


@tf.custom_gradient
def _swish_on_cpu(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
    def backwards(gradient: tf.Tensor) -> tf.Tensor:
        # A call outside of a graph would be compiled anew for every shape.
        if tf.executing_eagerly() or not _has_compiler():
            return _swish_gradient(x, gradient)
        compiled = _compiled_swish_gradient(x.dtype)(x, gradient)
        compiled.set_shape(x.shape)
        return compiled

    return tf.nn.silu(x), backwards


def _swish_gradient(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Returns the gradient by x, [...] as x and the gradient of swish's output."""
    (x,) = _no_earlier_than(gradient, x)
    # In float32, so that bfloat16 is rounded once.
    wide, gate = tf.cast(x, tf.float32), tf.sigmoid(tf.cast(x, tf.float32))
    return tf.cast(tf.cast(gradient, tf.float32) * gate * (1 + wide * (1 - gate)), x.dtype)


@functools.cache
def _compiled_swish_gradient(dtype: tf.DType) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns `_swish_gradient` as one loop over memory: XLA fuses its operations.

    It is traced once for tensors of any shape. Traced for each, it would have TensorFlow warn of too many.
    """
    any_shape = tf.TensorSpec(None, dtype)
    return tf.function(_swish_gradient, [any_shape, any_shape], jit_compile=True, autograph=False)


@functools.cache
def _has_compiler() -> bool:
    """Returns whether XLA compiles for this TensorFlow's CPU. That of tensorflow-tpu compiles for TPUs alone."""
    with tf.init_scope():
        try:
            tf.function(tf.identity, jit_compile=True, autograph=False)(0.0)
        except (tf.errors.OpError, RuntimeError):
            return False
    return True


def _no_earlier_than(gradient: tf.Tensor, *tensors: tf.Tensor) -> list[tf.Tensor]:
    """Returns the tensors, [...] each, as they are when the gradient, [...] of any shape, is there.

    What a gradient computes of a layer's inputs alone is otherwise computed in the forward pass, and held until it is
    needed.
    """
    with tf.control_dependencies([gradient]):
        return [tf.identity(tensor) for tensor in tensors]


@keras.saving.register_keras_serializable(PACKAGE)
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras' own, with a faster gradient by wide kernels; for padding "same", no bias, no dilation."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolves [batch, height, width, channels] to [batch, height / strides, width / strides, channels]."""
        if placement.on_cpu() and self.kernel_size[1] > _COLUMNS:
            return _depthwise_on_cpu(inputs, tf.convert_to_tensor(self.kernel), self.strides[0])
        return super().call(inputs)


def _depthwise_on_cpu(inputs: tf.Tensor, kernel: tf.Tensor, strides: int) -> tf.Tensor:
    """Convolves [batch, height, width, channels] by [rows, columns, channels, 1], with padding "same"."""
    steps = [1, strides, strides, 1]

    @tf.custom_gradient
    def convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def backwards(gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            by_inputs = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=gradient, strides=steps, padding="SAME"
            )
            (later,) = _no_earlier_than(gradient, inputs)
            return by_inputs, _gradient_by_kernel(later, kernel.shape, gradient, steps)

        return tf.nn.depthwise_conv2d(inputs, kernel, steps, "SAME"), backwards

    return convolve(inputs, kernel)


def _gradient_by_kernel(
    inputs: tf.Tensor, kernel_shape: tf.TensorShape, gradient: tf.Tensor, steps: list[int]
) -> tf.Tensor:
    """Returns the gradient by a depthwise kernel, taken for three of its columns at a time.

    Each group of columns is a narrower kernel over a part of the image.

    Args:
        inputs: [batch, height, width, channels].
        kernel_shape: rows, columns, channels, 1.
        gradient: [batch, height / strides, width / strides, channels], of the convolution's output.
        steps: the strides, as TensorFlow takes them.
    """
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
