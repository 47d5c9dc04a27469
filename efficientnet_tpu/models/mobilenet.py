"""The block records of a MobileNetV1 -> a Keras model (Howard et al. 2017).

MobileNetV2's blocks are EfficientNet's without squeeze-and-excitation: `efficientnet` builds it from its table.
"""

import keras
from keras import layers

from efficientnet_tpu.models.architecture import Architecture, SeparableSpec
from efficientnet_tpu.models.blocks import Style, activate, classifier_initializer, conv_bn, depthwise_bn
from efficientnet_tpu.models.layers import Dropout


def build_model(architecture: Architecture, batch_norm_group_size: int = 1) -> keras.Model:
    """The classifier, as `efficientnet.build_model`: images of any size, 0..255 -> float32 logits."""
    style = Style.of(architecture, batch_norm_group_size)
    images = keras.Input((None, None, 3), dtype="float32", name="images")
    variance = [std**2 for std in architecture.std]
    x = layers.Normalization(mean=architecture.mean, variance=variance, dtype="float32", name="normalization")(images)
    x = conv_bn(x, architecture.stem_filters, architecture.stem_kernel_size, 2, style, "stem")
    x = activate(x, style, "stem_activation")
    for index, block in enumerate(architecture.blocks):
        x = separable(x, block, style, f"block_{index}")
    x = layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
    if architecture.dropout_rate:
        x = Dropout(architecture.dropout_rate, dtype="float32", name="dropout")(x)
    logits = layers.Dense(
        architecture.num_classes, kernel_initializer=classifier_initializer(), dtype="float32", name="classifier"
    )(x)
    return keras.Model(images, logits, name=architecture.name)


def separable(x: keras.KerasTensor, block: SeparableSpec, style: Style, name: str) -> keras.KerasTensor:
    """Depthwise separable convolution: each channel by itself, then 1x1 over the channels."""
    x, _ = depthwise_bn(x, block.kernel_size, block.strides, style, f"{name}_depthwise")
    x = activate(x, style, f"{name}_depthwise_activation")
    x = conv_bn(x, block.filters, 1, 1, style, f"{name}_project")
    return activate(x, style, f"{name}_project_activation")
