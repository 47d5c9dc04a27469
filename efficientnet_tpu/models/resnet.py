"""The block records of a ResNet of bottlenecks -> a Keras model (He et al. 2016; stride in the 3x3 convolution).

Convolutions have no bias: batch norm has one, and follows each.
"""

import keras
from keras import layers

from efficientnet_tpu.models.architecture import Architecture, BottleneckSpec
from efficientnet_tpu.models.blocks import Style, activate, classifier_initializer, conv_bn
from efficientnet_tpu.models.layers import Dropout


def build_model(architecture: Architecture, batch_norm_group_size: int = 1) -> keras.Model:
    """The classifier, as `efficientnet.build_model`: images of any size, 0..255 -> float32 logits."""
    style = Style.of(architecture, batch_norm_group_size)
    images = keras.Input((None, None, 3), dtype="float32", name="images")
    variance = [std**2 for std in architecture.std]
    x = layers.Normalization(mean=architecture.mean, variance=variance, dtype="float32", name="normalization")(images)
    x = conv_bn(x, architecture.stem_filters, architecture.stem_kernel_size, 2, style, "stem")
    x = activate(x, style, "stem_activation")
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    for index, block in enumerate(architecture.blocks):
        x = bottleneck(x, block, style, f"block_{index}")
    x = layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
    if architecture.dropout_rate:
        x = Dropout(architecture.dropout_rate, dtype="float32", name="dropout")(x)
    logits = layers.Dense(
        architecture.num_classes, kernel_initializer=classifier_initializer(), dtype="float32", name="classifier"
    )(x)
    return keras.Model(images, logits, name=architecture.name)


def bottleneck(x: keras.KerasTensor, block: BottleneckSpec, style: Style, name: str) -> keras.KerasTensor:
    """1x1 to fewer filters, k x k, 1x1 to four times as many; added to the input, projected where the shape changes."""
    shortcut = x
    if block.has_projection:
        shortcut = conv_bn(x, block.filters, 1, block.strides, style, f"{name}_shortcut")
    x = conv_bn(x, block.inner_filters, 1, 1, style, f"{name}_reduce")
    x = activate(x, style, f"{name}_reduce_activation")
    x = conv_bn(x, block.inner_filters, block.kernel_size, block.strides, style, f"{name}_spatial")
    x = activate(x, style, f"{name}_spatial_activation")
    x = conv_bn(x, block.filters, 1, 1, style, f"{name}_expand")
    if block.drop_rate:
        x = Dropout(block.drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return activate(x, style, f"{name}_activation")
