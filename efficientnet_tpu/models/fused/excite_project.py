"""Batch norm, swish, squeeze-and-excitation and the 1x1 convolution after them as one, with a gradient that reads less
memory. TPUs train by it.

Layer by layer, the gradient of the convolution's input, six times as wide as a block's input, is written, read for the
gate's gradient, read and written by swish's, and read twice more. Here it is computed from the convolution's narrow
gradient, twice, and never written. Twice is enough: batch norm's gradient needs sums that are linear in what comes
through the gate, so the sums of each image are taken before that is known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import keras
import tensorflow as tf

from efficientnet_tpu.hardware import placement
from efficientnet_tpu.models.fused.batch_norm_gradient import BatchStatistics, NormGradient
from efficientnet_tpu.models.fused.batch_norm_kernel import FusedBatchNormalization
from efficientnet_tpu.models.fused.layer_inputs import keep_inputs, take_inputs
from efficientnet_tpu.models.fused.optimization_barrier import optimization_barrier
from efficientnet_tpu.models.layers import PACKAGE

Gradients = tuple[tf.Tensor, ...]
Gate = Callable[..., tf.Tensor]


@keras.saving.register_keras_serializable(PACKAGE)
class KeepingBatchNormalization(FusedBatchNormalization):
    """Batch norm that on TPUs keeps its inputs and their statistics for the ProjectingConv2D of its block."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the normalized inputs, [batch, height, width, channels]."""
        outputs = super().call(inputs, training=training)
        statistics = take_inputs(self.name)
        keep_inputs(self.name, statistics and (inputs, statistics))
        return outputs

    def normalize_by_batch(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Normalizes by the statistics of this replica's group.

        Args:
            x: float32 [batch, height, width, channels].

        Returns:
            The outputs, float32 [batch, height, width, channels], and the mean and biased variance, float32 [channels].
        """
        outputs, mean, variance = super().normalize_by_batch(x)
        if placement.on_tpu():
            gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
            keep_inputs(self.name, BatchStatistics(gamma, beta, mean, variance, self.epsilon, self.group_mean))
        return outputs, mean, variance


@dataclass(frozen=True)
class Excitation:
    """The parts of a ProjectingConv2D's input: swish of a batch norm, times the gate of its mean.

    It is no layer. Keras would take layers that are attributes of another for parts of it, weights included.
    """

    norm_name: str
    squeeze_name: str
    gate_layers: tuple[keras.layers.Layer, ...]


@keras.saving.register_keras_serializable(PACKAGE)
class ProjectingConv2D(keras.layers.Conv2D):
    """Keras' own, 1x1 and without bias. On TPUs it is computed together with the layers before it."""

    excitation: Excitation | None = None

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolves [batch, height, width, n] to [batch, height, width, channels]."""
        kept = take_inputs(self.excitation.norm_name) if self.excitation else None
        if kept is None:
            return super().call(inputs)
        layers = self.excitation.gate_layers
        variables = [variable for layer in layers for variable in layer.variables]

        def gate(mean: tf.Tensor, *values: tf.Tensor) -> tf.Tensor:
            # By values instead of variables, so that the custom gradient has them as inputs.
            with keras.StatelessScope(list(zip(variables, values, strict=True))):
                for layer in layers:
                    mean = layer(mean)
            return mean

        gate_weights = [tf.convert_to_tensor(variable.value) for variable in variables]
        kernel = tf.convert_to_tensor(self.kernel)
        return excite_and_project(*kept, gate, gate_weights, kernel, (self.excitation.squeeze_name, self.name))


def excite_and_project(
    y: tf.Tensor,
    statistics: BatchStatistics,
    gate: Gate,
    gate_weights: Sequence[tf.Tensor],
    kernel: tf.Tensor,
    names: tuple[str, str],
) -> tf.Tensor:
    """Normalizes, activates, excites and projects.

    Args:
        y: [batch, height, width, n], the input of the batch norm.
        statistics: of y.
        gate: takes the mean of the activations, float32 [batch, 1, 1, n], and the gate's weights to the factor of every
            channel, [batch, 1, 1, n] in 0..1.
        gate_weights: the weights of the gate, each of its own shape.
        kernel: [1, 1, n, channels], of y's dtype.
        names: the squeeze's and the convolution's; their operations are named by them, in the gradient too.

    Returns:
        [batch, height, width, channels], of y's dtype.
    """

    @tf.custom_gradient
    def project(
        y: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, kernel: tf.Tensor, *gate_weights: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], Gradients]]:
        call = _Call(y, replace(statistics, gamma=gamma, beta=beta), gate, gate_weights, kernel, names)
        return call.output, call.gradients

    return project(y, statistics.gamma, statistics.beta, kernel, *gate_weights)


class _Call:
    """One call of `excite_and_project`: its output, and its gradients by what it was given."""

    def __init__(
        self,
        y: tf.Tensor,
        statistics: BatchStatistics,
        gate: Gate,
        gate_weights: Sequence[tf.Tensor],
        kernel: tf.Tensor,
        names: tuple[str, str],
    ):
        self.y, self.statistics, self.kernel = y, statistics, kernel
        self.gate, self.gate_weights = gate, gate_weights
        squeeze_name, self.name = names
        _, activation, _ = self._swish()
        with tf.name_scope(squeeze_name):
            self.mean = tf.reduce_mean(activation, [1, 2], keepdims=True)
        # In float32, as the mean: the sums of the backward pass are over up to 112 * 112 positions.
        self.gates = tf.cast(gate(self.mean, *gate_weights), tf.float32)
        self.excited = tf.cast(activation * self.gates, y.dtype)
        with tf.name_scope(self.name):
            self.output = tf.nn.conv2d(self.excited, kernel, 1, "SAME")

    def gradients(self, dout: tf.Tensor) -> Gradients:
        """Returns the gradients by y, gamma, beta, the kernel and each of the gate's weights, in their shapes.

        dout: [batch, height, width, channels], the gradient of the output.
        """
        with tf.name_scope("projection_bn"):  # plan/hlo_cost.py counts by this name
            dmean, by_norm, by_gate = self._first_pass(dout)
            dy = self._second_pass(dout, dmean, by_norm)
        with tf.name_scope(self.name):
            by_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=self.excited,
                filter_sizes=self.kernel.shape,
                out_backprop=dout,
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
        return (dy, by_norm.by_gamma, by_norm.by_beta, by_kernel, *by_gate)

    def _first_pass(self, dout: tf.Tensor) -> tuple[tf.Tensor, NormGradient, Sequence[tf.Tensor]]:
        """Reads y once, for sums over each image.

        Returns:
            The gradient by the activations' mean as each position's share, [batch, 1, 1, n]; batch norm's; and those by
            the gate's weights.
        """
        y, activation, slope = self._swish()
        dexcited = self._gradient_by_excited(dout)
        dgates = _sum_by_image(dexcited * activation)
        direct, direct_y = _sum_by_image(dexcited * slope), _sum_by_image(dexcited * slope * y)
        through_mean, through_mean_y = _sum_by_image(slope), _sum_by_image(slope * y)

        inputs = [self.mean, *self.gate_weights]
        # The gate is two convolutions of one position: computing it again is cheaper than keeping its inside.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            gates = self.gate(*inputs)
        dmean, *by_gate = tape.gradient(gates, inputs, tf.cast(dgates, gates.dtype))
        batch_size, height, width, _ = tf.unstack(tf.cast(tf.shape(y), tf.float32))
        dmean /= height * width  # every position has the same share in the mean
        by_norm = self.statistics.gradient(
            tf.reduce_sum(self.gates * direct + dmean * through_mean, [0, 1, 2]),
            tf.reduce_sum(self.gates * direct_y + dmean * through_mean_y, [0, 1, 2]),
            batch_size * height * width,
        )
        return dmean, by_norm, by_gate

    def _second_pass(self, dout: tf.Tensor, dmean: tf.Tensor, by_norm: NormGradient) -> tf.Tensor:
        """Reads y again, and returns the gradient by it, [batch, height, width, n]."""
        y, _, slope = self._swish()
        # Without the barrier the compiler finds that this is the convolution of the first pass, and keeps its result.
        later, c1 = optimization_barrier(dout, after=by_norm.c1)
        dz = (self._gradient_by_excited(later) * self.gates + dmean) * slope
        return tf.cast(dz * self.statistics.scale + c1 + by_norm.c2 * y, self.y.dtype)

    def _swish(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns y, swish of its batch norm, and swish's derivative there: float32 [batch, height, width, n]."""
        y = tf.cast(self.y, tf.float32)
        z = y * self.statistics.scale + self.statistics.shift
        sigmoid = tf.sigmoid(z)
        return y, z * sigmoid, sigmoid * (1 + z * (1 - sigmoid))

    def _gradient_by_excited(self, dout: tf.Tensor) -> tf.Tensor:
        """Returns the gradient by the input of the convolution, float32 [batch, height, width, n]."""
        with tf.name_scope(self.name):
            gradient = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(self.y),
                filter=self.kernel,
                out_backprop=dout,
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
        return tf.cast(gradient, tf.float32)


def _sum_by_image(values: tf.Tensor) -> tf.Tensor:
    """Sums [batch, height, width, channels] to [batch, 1, 1, channels]."""
    return tf.reduce_sum(values, [1, 2], keepdims=True)
