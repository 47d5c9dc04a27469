"""The pieces of an EfficientNet, as functions over Keras layers: conv + batch norm, squeeze-and-excitation, MBConv.

Images and features are [batch, height, width, channels]. Every layer is named, so that weights can be mapped by name.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers

from efficientnet_tpu.models.architecture import Architecture, MBConvSpec
from efficientnet_tpu.models.fused.cpu_gradients import DepthwiseConv2D, Swish
from efficientnet_tpu.models.fused.excite_project import ProjectingConv2D
from efficientnet_tpu.models.fused.expand_conv_bn import ExpandingConv2D
from efficientnet_tpu.models.layers import BatchNormalization, Dropout


@dataclass(frozen=True)
class Style:
    """What all blocks of a network share."""

    activation: str
    batch_norm_momentum: float
    batch_norm_epsilon: float
    batch_norm_group_size: int

    @classmethod
    def of(cls, architecture: Architecture, batch_norm_group_size: int) -> "Style":
        return cls(
            architecture.activation,
            architecture.batch_norm_momentum,
            architecture.batch_norm_epsilon,
            batch_norm_group_size,
        )


def kernel_initializer() -> keras.initializers.Initializer:
    """Untruncated normal of variance 2 / (height * width * last axis), the reference's for all convolutions.

    The last axis of a depthwise kernel is its multiplier, 1. A new instance for every layer: Keras' initializers
    repeat themselves.
    """
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")


def classifier_initializer() -> keras.initializers.Initializer:
    """Uniform in +-1 / sqrt(number of classes), the reference's for the classifier."""
    return keras.initializers.VarianceScaling(1 / 3, mode="fan_out", distribution="uniform")


def batch_norm(x: keras.KerasTensor, style: Style, name: str) -> keras.KerasTensor:
    """Batch norm with the constants of the network."""
    return batch_norm_layer(style, name)(x)


def batch_norm_layer(style: Style, name: str) -> BatchNormalization:
    """The layer, for those who have more to say to it."""
    return BatchNormalization(
        style.batch_norm_momentum, style.batch_norm_epsilon, style.batch_norm_group_size, name=name
    )


def activate(x: keras.KerasTensor, style: Style, name: str) -> keras.KerasTensor:
    """The activation of the network."""
    if style.activation == "silu":
        return Swish(name=name)(x)
    return layers.Activation(style.activation, name=name)(x)


def conv_bn(
    x: keras.KerasTensor, filters: int, kernel_size: int, strides: int, style: Style, name: str
) -> keras.KerasTensor:
    """Convolution without bias, then batch norm; no activation."""
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer=kernel_initializer(),
        name=f"{name}_conv",
    )(x)
    return batch_norm(x, style, f"{name}_bn")


def expand_bn(x: keras.KerasTensor, filters: int, style: Style, name: str) -> keras.KerasTensor:
    """The same with a 1x1 kernel, for many more filters than x has."""
    convolution = ExpandingConv2D(
        filters, 1, padding="same", use_bias=False, kernel_initializer=kernel_initializer(), name=f"{name}_conv"
    )
    norm = batch_norm_layer(style, f"{name}_bn")
    norm.follows(convolution)
    return norm(convolution(x))


def depthwise_bn(
    x: keras.KerasTensor, kernel_size: int, strides: int, style: Style, name: str
) -> tuple[keras.KerasTensor, BatchNormalization]:
    """Depthwise convolution without bias, then batch norm; no activation. And the layer that is the batch norm."""
    x = DepthwiseConv2D(
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=kernel_initializer(),
        name=f"{name}_conv",
    )(x)
    norm = batch_norm_layer(style, f"{name}_bn")
    return norm(x), norm


def squeeze_excite(
    x: keras.KerasTensor, se_filters: int, style: Style, name: str
) -> tuple[keras.KerasTensor, tuple[layers.Layer, layers.Layer]]:
    """Scales every channel by a gate in 0..1 computed from the channels' means. And the layers that compute it."""
    reduce = _pointwise(se_filters, style.activation, f"{name}_reduce")
    expand = _pointwise(x.shape[-1], "sigmoid", f"{name}_expand")
    # The mean over a large map loses three digits in bfloat16.
    means = layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name=f"{name}_squeeze")(x)
    return layers.Multiply(name=f"{name}_excite")([x, expand(reduce(means))]), (reduce, expand)


def _pointwise(filters: int, activation: str | Callable, name: str) -> layers.Layer:
    return layers.Conv2D(filters, 1, activation=activation, kernel_initializer=kernel_initializer(), name=name)


def mbconv(x: keras.KerasTensor, block: MBConvSpec, style: Style, name: str) -> keras.KerasTensor:
    """Mobile inverted bottleneck: expand, depthwise, squeeze-and-excitation, project, stochastic depth, residual."""
    inputs = x
    if block.expand_ratio != 1:
        x = expand_bn(x, block.expanded_filters, style, f"{name}_expand")
        x = activate(x, style, f"{name}_expand_activation")
    x, norm = depthwise_bn(x, block.kernel_size, block.strides, style, f"{name}_depthwise")
    x = activate(x, style, f"{name}_depthwise_activation")
    gate = ()
    if block.se_filters:
        x, gate = squeeze_excite(x, block.se_filters, style, f"{name}_se")
    projection = ProjectingConv2D(
        block.filters,
        1,
        padding="same",
        use_bias=False,
        kernel_initializer=kernel_initializer(),
        name=f"{name}_project_conv",
    )
    if gate and style.activation == "silu":
        projection.follows(norm.name, *gate)
        norm.precedes_projection()
    x = batch_norm(projection(x), style, f"{name}_project_bn")
    if not block.has_residual:
        return x
    if block.drop_rate:
        x = Dropout(block.drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
    return layers.Add(name=f"{name}_add")([x, inputs])
