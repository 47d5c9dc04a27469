"""Builds the Keras model of a MobileNetV1 from its block records (Howard et al. 2017).

MobileNetV2's blocks are EfficientNet's without squeeze-and-excitation: `efficientnet` builds it from its table.
"""

import keras
from keras import layers

from efficientnet_tpu.models.architecture import Architecture, SeparableSpec
from efficientnet_tpu.models.blocks import Style, classifier_initializer, conv_bn_act, depthwise_bn_act
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
    for index, block in enumerate(architecture.blocks):
        x = separable(x, block, style, f"block_{index}")
    # There is no head. float32 from here on: the mean over the map and the logits lose too much in bfloat16.
    x = layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
    if architecture.dropout_rate:
        x = Dropout(architecture.dropout_rate, dtype="float32", name="dropout")(x)
    logits = layers.Dense(
        architecture.num_classes, kernel_initializer=classifier_initializer(), dtype="float32", name="classifier"
    )(x)
    return keras.Model(images, logits, name=architecture.name)


def separable(x: keras.KerasTensor, block: SeparableSpec, style: Style, name: str) -> keras.KerasTensor:
    """Applies a depthwise separable convolution: each channel by itself, then 1x1 over the channels.

    x: [batch, height, width, input_filters] -> [batch, height / strides, width / strides, filters], sides rounded up.
    """
    x = depthwise_bn_act(x, block.kernel_size, block.strides, style, f"{name}_depthwise")
    return conv_bn_act(x, block.filters, 1, 1, style, f"{name}_project")
