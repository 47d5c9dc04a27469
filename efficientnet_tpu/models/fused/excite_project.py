"""Batch norm, swish, squeeze-and-excitation and the 1x1 convolution after them as one, with a gradient that reads less
memory; what TPUs train by.

Layer by layer, the gradient of the convolution's input, six times as wide as a block's input, is written, read for the
gate's gradient, read and written by swish's, and read twice more. Here it is computed from the convolution's narrow
gradient, twice, and never written. Twice is enough since what batch norm's gradient sums up is linear in what comes
through the gate: every image's sums are taken before that is known.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from efficientnet_tpu.models.fused.batch_norm_gradient import BatchNorm, NormGradient
from efficientnet_tpu.models.fused.cpu_gradients import PACKAGE
from efficientnet_tpu.models.fused.layer_inputs import Handover
from efficientnet_tpu.models.fused.optimization_barrier import after

Gate = Callable[..., tf.Tensor]
Gradients = tuple[tf.Tensor, ...]

# Of a batch norm that a projection follows: its input [batch, height, width, channels], and a BatchNorm.
batches = Handover()


@keras.saving.register_keras_serializable(PACKAGE)
class ProjectingConv2D(keras.layers.Conv2D):
    """Keras' own, 1x1 and without bias; on TPUs computed with the layers before it, where it knows them."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.norm_name = None
        self.gate_layers = ()

    def follows(self, norm_name: str, *gate_layers: keras.layers.Layer) -> None:
        """Says that the input is swish of that batch norm times the gate, which the layers make of the map's mean."""
        self.norm_name = norm_name
        # Not themselves, whose weights would become this layer's too.
        self.gate_layers = tuple(weakref.ref(layer) for layer in gate_layers)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        batch = batches.take(self.norm_name) if self.norm_name else None
        if batch is None:
            return super().call(inputs)
        layers = [layer() for layer in self.gate_layers]
        variables = [variable for layer in layers for variable in layer.variables]

        def gate(mean: tf.Tensor, *values: tf.Tensor) -> tf.Tensor:
            with keras.StatelessScope(list(zip(variables, values, strict=True))):
                for layer in layers:
                    mean = layer(mean)
            return mean

        values = [tf.convert_to_tensor(variable.value) for variable in variables]
        return excite_and_project(*batch, gate, values, tf.convert_to_tensor(self.kernel), self.name)


def excite_and_project(
    y: tf.Tensor, norm: BatchNorm, gate: Gate, gate_weights: Sequence[tf.Tensor], kernel: tf.Tensor, name: str
) -> tf.Tensor:
    """[batch, height, width, n], which `norm` is of, [1, 1, n, channels] -> [batch, height, width, channels], of y's
    dtype.

    gate: of the activations' mean, float32 [batch, 1, 1, n], and the gate's weights. name: the convolution's, under
    which its operations go, in the gradient too.
    """

    @tf.custom_gradient
    def project(
        y: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, kernel: tf.Tensor, *gate_weights: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], Gradients]]:
        piece = _Projection(y, replace(norm, gamma=gamma, beta=beta), gate, gate_weights, kernel, name)
        return piece.output, piece.gradients

    return project(y, norm.gamma, norm.beta, kernel, *gate_weights)


class _Projection:
    """One call: its output, and the gradients of what it was given."""

    def __init__(
        self, y: tf.Tensor, norm: BatchNorm, gate: Gate, gate_weights: Sequence[tf.Tensor], kernel: tf.Tensor, name: str
    ):
        self.y, self.norm, self.gate, self.gate_weights, self.kernel, self.name = (
            y,
            norm,
            gate,
            gate_weights,
            kernel,
            name,
        )
        _, activation, _ = self._swish()
        with tf.name_scope(name.replace("project_conv", "se_squeeze")):
            self.mean = tf.reduce_mean(activation, [1, 2], keepdims=True)
        self.gates = tf.cast(gate(self.mean, *gate_weights), tf.float32)
        self.excited = tf.cast(activation * self.gates, y.dtype)
        with tf.name_scope(name):
            self.output = tf.nn.conv2d(self.excited, kernel, 1, "SAME")

    def gradients(self, dout: tf.Tensor) -> Gradients:
        """Of y, gamma, beta, the kernel and the gate's weights."""
        with tf.name_scope("projection_bn"):
            dmean, by_norm, by_gate = self._sums(dout)
            dy = self._input_gradient(dout, dmean, by_norm)
        with tf.name_scope(self.name):
            by_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=self.excited,
                filter_sizes=self.kernel.shape,
                out_backprop=dout,
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
        return (dy, by_norm.by_gamma, by_norm.by_beta, by_kernel, *by_gate)

    def _sums(self, dout: tf.Tensor) -> tuple[tf.Tensor, NormGradient, Sequence[tf.Tensor]]:
        """One pass over y. Gradients: every position's share of the activations' mean's, batch norm's, the gate's
        weights'.
        """
        y, activation, slope = self._swish()
        dexcited = self._excited_gradient(dout)
        dgates = _by_image(dexcited * activation)
        direct, direct_y = _by_image(dexcited * slope), _by_image(dexcited * slope * y)
        through_mean, through_mean_y = _by_image(slope), _by_image(slope * y)

        inputs = [self.mean, *self.gate_weights]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            gates = self.gate(*inputs)
        dmean, *by_gate = tape.gradient(gates, inputs, tf.cast(dgates, gates.dtype))
        batch_size, height, width, _ = tf.unstack(tf.cast(tf.shape(y), tf.float32))
        dmean /= height * width
        by_norm = self.norm.gradient(
            tf.reduce_sum(self.gates * direct + dmean * through_mean, [0, 1, 2]),
            tf.reduce_sum(self.gates * direct_y + dmean * through_mean_y, [0, 1, 2]),
            batch_size * height * width,
        )
        return dmean, by_norm, by_gate

    def _input_gradient(self, dout: tf.Tensor, dmean: tf.Tensor, by_norm: NormGradient) -> tf.Tensor:
        """The second pass."""
        y, _, slope = self._swish()
        # The compiler would find the same convolution, and keep what it gave, were its input not made to wait.
        later, c1 = after(by_norm.c1, dout)
        dz = (self._excited_gradient(later) * self.gates + dmean) * slope
        return tf.cast(dz * self.norm.scale + c1 + by_norm.c2 * y, self.y.dtype)

    def _swish(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """y, swish of its batch norm, and swish's derivative there, float32."""
        y = tf.cast(self.y, tf.float32)
        z = y * self.norm.scale + self.norm.shift
        sigmoid = tf.sigmoid(z)
        return y, z * sigmoid, sigmoid * (1 + z * (1 - sigmoid))

    def _excited_gradient(self, dout: tf.Tensor) -> tf.Tensor:
        with tf.name_scope(self.name):
            gradient = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(self.y),
                filter=self.kernel,
                out_backprop=dout,
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
        return tf.cast(gradient, tf.float32)


def _by_image(values: tf.Tensor) -> tf.Tensor:
    """Every image's sums, [batch, 1, 1, channels]."""
    return tf.reduce_sum(values, [1, 2], keepdims=True)
