"""The pieces of the networks, as functions over Keras layers: conv + batch norm, squeeze-and-excitation, MBConv.

Features are [batch, height, width, channels], in the compute dtype of Keras' dtype policy. All convolutions pad "same".
Every layer has a name, by which weights are stored and mapped. The order in which layers are created decides the
initial weights: Keras draws a seed for each.
"""

from dataclasses import dataclass

import keras
from keras import layers

from efficientnet_tpu.models.architecture import Architecture, FusedMBConvSpec, MBConvSpec
from efficientnet_tpu.models.layers import BatchNormalization, Dropout


@dataclass(frozen=True)
class Style:
    """The constructors of a network's layers, with what all layers of a network share."""

    activation: str
    batch_norm_momentum: float
    batch_norm_epsilon: float
    batch_norm_group_size: int

    @classmethod
    def of(cls, architecture: Architecture, batch_norm_group_size: int) -> "Style":
        """Returns the style of a network whose batch norm has statistics over groups of so many replicas."""
        return cls(
            architecture.activation,
            architecture.batch_norm_momentum,
            architecture.batch_norm_epsilon,
            batch_norm_group_size,
        )

    def conv(self, filters: int, kernel_size: int, strides: int, name: str) -> layers.Layer:
        """Creates a convolution. It has no bias: batch norm follows, which subtracts any."""
        return layers.Conv2D(
            filters,
            kernel_size,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer=kernel_initializer(),
            name=name,
        )

    def depthwise(self, kernel_size: int, strides: int, name: str) -> layers.Layer:
        """Creates a convolution of each channel by itself, without bias."""
        return layers.DepthwiseConv2D(
            kernel_size,
            strides,
            padding="same",
            use_bias=False,
            depthwise_initializer=kernel_initializer(),
            name=name,
        )

    def norm(self, name: str) -> layers.Layer:
        """Creates a batch norm with the constants of the network."""
        return BatchNormalization(
            self.batch_norm_momentum, self.batch_norm_epsilon, self.batch_norm_group_size, name=name
        )

    def act(self, name: str) -> layers.Layer:
        """Creates the activation of the network: SiLU, or ReLU6 for Lite."""
        return layers.Activation(self.activation, name=name)


def kernel_initializer() -> keras.initializers.Initializer:
    """Returns a normal of variance 2 / (height * width * last axis), not truncated, as in the reference.

    The last axis of a depthwise kernel is its multiplier, 1. Every layer needs an instance of its own: an initializer
    of Keras gives the same numbers each time.
    """
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")


def classifier_initializer() -> keras.initializers.Initializer:
    """Returns the uniform distribution in +-1 / sqrt(number of classes), the reference's for the classifier."""
    return keras.initializers.VarianceScaling(1 / 3, mode="fan_out", distribution="uniform")


def conv_bn(
    x: keras.KerasTensor, filters: int, kernel_size: int, strides: int, style: Style, name: str
) -> keras.KerasTensor:
    """Applies a convolution and batch norm, no activation.

    Args:
        x: [batch, height, width, channels].

    Returns:
        [batch, height / strides, width / strides, filters], sides rounded up.
    """
    x = style.conv(filters, kernel_size, strides, name=f"{name}_conv")(x)
    return style.norm(name=f"{name}_bn")(x)


def conv_bn_act(
    x: keras.KerasTensor, filters: int, kernel_size: int, strides: int, style: Style, name: str
) -> keras.KerasTensor:
    """Applies a convolution, batch norm and the activation.

    Args:
        x: [batch, height, width, channels].

    Returns:
        [batch, height / strides, width / strides, filters], sides rounded up.
    """
    x = conv_bn(x, filters, kernel_size, strides, style, name)
    return style.act(name=f"{name}_activation")(x)


def depthwise_bn_act(
    x: keras.KerasTensor, kernel_size: int, strides: int, style: Style, name: str
) -> keras.KerasTensor:
    """Applies a depthwise convolution, batch norm and the activation.

    Args:
        x: [batch, height, width, channels].

    Returns:
        [batch, height / strides, width / strides, channels], sides rounded up.
    """
    x = style.depthwise(kernel_size, strides, name=f"{name}_conv")(x)
    x = style.norm(name=f"{name}_bn")(x)
    return style.act(name=f"{name}_activation")(x)


def squeeze_excite(x: keras.KerasTensor, se_filters: int, style: Style, name: str) -> keras.KerasTensor:
    """Scales every channel by a gate in 0..1, computed from the means of all channels (Hu et al. 2018).

    x, and the result: [batch, height, width, channels].
    """
    # The only convolutions with a bias: no batch norm follows them.
    reduce = layers.Conv2D(
        se_filters, 1, activation=style.activation, kernel_initializer=kernel_initializer(), name=f"{name}_reduce"
    )
    expand = layers.Conv2D(
        x.shape[-1], 1, activation="sigmoid", kernel_initializer=kernel_initializer(), name=f"{name}_expand"
    )
    # The mean over a large map loses three digits in bfloat16.
    means = layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name=f"{name}_squeeze")(x)
    return layers.Multiply(name=f"{name}_excite")([x, expand(reduce(means))])


def drop_path(x: keras.KerasTensor, drop_rate: float, name: str) -> keras.KerasTensor:
    """Applies stochastic depth (Huang et al. 2016): drops whole samples in training, and scales the others.

    x, and the result: [batch, height, width, channels]. A rate of 0 makes no layer.
    """
    # One draw for each sample: the shape of the noise is [batch, 1, 1, 1].
    return Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=name)(x) if drop_rate else x


def mbconv(x: keras.KerasTensor, block: MBConvSpec, style: Style, name: str) -> keras.KerasTensor:
    """Applies a mobile inverted bottleneck (Sandler et al. 2018, Figure 4d; with squeeze-and-excitation, Tan et al.
    2019): expand, depthwise, squeeze-and-excite, project, residual with stochastic depth.

    Args:
        x: [batch, height, width, input_filters].

    Returns:
        [batch, height / strides, width / strides, filters], sides rounded up.
    """
    inputs = x
    # The first stage has a ratio of 1, for which the paper has no expansion at all.
    if block.expand_ratio != 1:
        x = conv_bn_act(x, block.expanded_filters, 1, 1, style, f"{name}_expand")
    x = depthwise_bn_act(x, block.kernel_size, block.strides, style, f"{name}_depthwise")
    if block.se_filters:
        x = squeeze_excite(x, block.se_filters, style, f"{name}_se")
    x = conv_bn(x, block.filters, 1, 1, style, f"{name}_project")  # a linear bottleneck: ReLU here would lose much
    # The narrow ends of blocks are added, not the wide middles: a residual costs little memory.
    return add_skip(x, inputs, block, name)


def fused_mbconv(x: keras.KerasTensor, block: FusedMBConvSpec, style: Style, name: str) -> keras.KerasTensor:
    """Applies a Fused-MBConv block (Tan & Le 2021, Figure 2): one k x k convolution stands in place of MBConv's
    expansion and depthwise convolution. With an expand_ratio of 1 it is the only convolution.

    Args:
        x: [batch, height, width, input_filters].

    Returns:
        [batch, height / strides, width / strides, filters], sides rounded up.
    """
    inputs, size, strides = x, block.kernel_size, block.strides
    if block.expand_ratio != 1:
        x = conv_bn_act(x, block.expanded_filters, size, strides, style, f"{name}_expand")
        size, strides = 1, 1
    if block.se_filters:
        x = squeeze_excite(x, block.se_filters, style, f"{name}_se")
    x = conv_bn(x, block.filters, size, strides, style, f"{name}_project")
    if block.expand_ratio == 1:
        x = style.act(name=f"{name}_project_activation")(x)  # no linear bottleneck: nothing was expanded
    return add_skip(x, inputs, block, name)


def add_skip(
    x: keras.KerasTensor, inputs: keras.KerasTensor, block: MBConvSpec | FusedMBConvSpec, name: str
) -> keras.KerasTensor:
    """Adds a block's input, or the averages of its input, to its output, with stochastic depth.

    Args:
        x: [batch, height / strides, width / strides, filters], sides rounded up.
        inputs: [batch, height, width, input_filters].

    Returns:
        The sum, shaped as x; x where the block has no residual.
    """
    if not block.has_residual:
        return x
    if block.skip == "pool":
        inputs = layers.AveragePooling2D(3, block.strides, "same", name=f"{name}_skip_pool")(inputs)
    return layers.Add(name=f"{name}_add")([drop_path(x, block.drop_rate, f"{name}_drop"), inputs])


def part_of(layer_name: str) -> str:
    """Returns the part of a network that a layer belongs to: stem, block_0, block_1, ..., head, pool, classifier."""
    words = layer_name.split("_")
    return "_".join(words[:2]) if words[0] == "block" else words[0]
