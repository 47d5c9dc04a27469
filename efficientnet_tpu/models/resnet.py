"""Builds the Keras model of a ResNet of bottlenecks from its block records (He et al. 2016; stride in the 3x3).

Convolutions have no bias: batch norm has one, and follows each.
"""

import keras
from keras import layers

from efficientnet_tpu.models.architecture import Architecture, BottleneckSpec
from efficientnet_tpu.models.blocks import Style, classifier_initializer, conv_bn, conv_bn_act, drop_path
from efficientnet_tpu.models.layers import Dropout


def build_model(architecture: Architecture, batch_norm_group_size: int = 1) -> keras.Model:
    """Builds the classifier.

    Its inputs are images, [batch, height, width, 3] of any size and number type, 0..255. Its outputs are float32
    logits, [batch, num_classes].
    """
    style = Style.of(architecture, batch_norm_group_size)
    # Keras casts whatever it is fed to the input's float32, uint8 images included.
    images = keras.Input((None, None, 3), dtype="float32", name="images")
    variance = [std**2 for std in architecture.std]
    x = layers.Normalization(mean=architecture.mean, variance=variance, dtype="float32", name="normalization")(images)
    x = conv_bn_act(x, architecture.stem_filters, architecture.stem_kernel_size, 2, style, "stem")
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    for index, block in enumerate(architecture.blocks):
        x = bottleneck(x, block, style, f"block_{index}")
    # There is no head. float32 from here on: the mean over the map and the logits lose too much in bfloat16.
    x = layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
    if architecture.dropout_rate:
        x = Dropout(architecture.dropout_rate, dtype="float32", name="dropout")(x)
    logits = layers.Dense(
        architecture.num_classes, kernel_initializer=classifier_initializer(), dtype="float32", name="classifier"
    )(x)
    return keras.Model(images, logits, name=architecture.name)


def bottleneck(x: keras.KerasTensor, block: BottleneckSpec, style: Style, name: str) -> keras.KerasTensor:
    """Applies a bottleneck: 1x1 to fewer filters, k x k, 1x1 to four times as many; added to the input.

    x: [batch, height, width, input_filters] -> [batch, height / strides, width / strides, filters], sides rounded up.
    """
    shortcut = x
    if block.has_projection:
        shortcut = conv_bn(x, block.filters, 1, block.strides, style, f"{name}_shortcut")
    x = conv_bn_act(x, block.inner_filters, 1, 1, style, f"{name}_reduce")
    # With the stride in the first 1x1, as in He et al., three quarters of the input would not be seen.
    x = conv_bn_act(x, block.inner_filters, block.kernel_size, block.strides, style, f"{name}_spatial")
    x = conv_bn(x, block.filters, 1, 1, style, f"{name}_expand")
    x = layers.Add(name=f"{name}_add")([drop_path(x, block.drop_rate, f"{name}_drop"), shortcut])
    # After the addition, as in He et al. 2016; so a block gives no negative values.
    return style.act(name=f"{name}_activation")(x)
