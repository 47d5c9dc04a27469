"""Builds the Keras model of an EfficientNet from its block records. `compound_scaling` has taken all decisions."""

import keras
from keras import layers

from efficientnet_tpu.models.architecture import Architecture, FusedMBConvSpec, MBConvSpec
from efficientnet_tpu.models.blocks import Style, classifier_initializer, conv_bn_act, fused_mbconv, mbconv
from efficientnet_tpu.models.layers import Dropout

# The builder of every kind of block that an EfficientNet may have.
BLOCK_BUILDERS = {MBConvSpec: mbconv, FusedMBConvSpec: fused_mbconv}


def build_model(architecture: Architecture, batch_norm_group_size: int = 1) -> keras.Model:
    """Builds the classifier.

    Its inputs are images, [batch, height, width, 3] of any size and number type, 0..255. It normalizes them itself, in
    float32, by the statistics of the model's family. Its outputs are float32 logits, [batch, num_classes].
    """
    images, endpoints = _backbone(architecture, batch_norm_group_size)
    style = Style.of(architecture, batch_norm_group_size)
    x = conv_bn_act(list(endpoints.values())[-1], architecture.head_filters, 1, 1, style, "head")
    # float32 from here on: the mean over the map and the logits lose too much in bfloat16.
    x = layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
    if architecture.dropout_rate:
        x = Dropout(architecture.dropout_rate, dtype="float32", name="dropout")(x)
    logits = layers.Dense(
        architecture.num_classes, kernel_initializer=classifier_initializer(), dtype="float32", name="classifier"
    )(x)
    return keras.Model(images, logits, name=architecture.name)


def build_features(architecture: Architecture, batch_norm_group_size: int = 1) -> keras.Model:
    """Builds the network without its head, for detection and segmentation.

    Its inputs are images, [batch, height, width, 3], as in `build_model`. Its outputs are a dict of features,
    reduction_1 .. reduction_5, [batch, height / 2, width / 2, filters] .. [batch, height / 32, width / 32, filters];
    a --stage_table may have others.
    """
    images, endpoints = _backbone(architecture, batch_norm_group_size)
    return keras.Model(images, endpoints, name=f"{architecture.name}_features")


def _backbone(
    architecture: Architecture, batch_norm_group_size: int
) -> tuple[keras.KerasTensor, dict[str, keras.KerasTensor]]:
    """Returns the images that go in, and the last features, [batch, height, width, filters], at every size."""
    style = Style.of(architecture, batch_norm_group_size)
    # Keras casts whatever it is fed to the input's float32, uint8 images included.
    images = keras.Input((None, None, 3), dtype="float32", name="images")
    # Part of the network, so that an exported model takes pixels and nobody normalizes twice or not at all.
    variance = [std**2 for std in architecture.std]
    x = layers.Normalization(mean=architecture.mean, variance=variance, dtype="float32", name="normalization")(images)
    x = conv_bn_act(x, architecture.stem_filters, architecture.stem_kernel_size, 2, style, "stem")
    endpoints = {}
    for index, block in enumerate(architecture.blocks):
        x = BLOCK_BUILDERS[type(block)](x, block, style, f"block_{index}")
        following = architecture.blocks[index + 1 :]
        # The last map of a size has seen the most: detection takes these (EfficientDet, Tan et al. 2020).
        if not following or following[0].strides == 2:
            endpoints[f"reduction_{len(endpoints) + 1}"] = x
    return images, endpoints
