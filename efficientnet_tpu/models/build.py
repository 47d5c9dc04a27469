"""The record of a whole network -> its Keras model, by the builder of its kind of blocks."""

import keras

from efficientnet_tpu.models import efficientnet, mobilenet, resnet
from efficientnet_tpu.models.architecture import Architecture

BUILDERS = {
    "mbconv": efficientnet.build_model,
    "separable": mobilenet.build_model,
    "bottleneck": resnet.build_model,
}


def build_model(architecture: Architecture, batch_norm_group_size: int = 1) -> keras.Model:
    """The classifier: images [batch, height, width, 3] of any size and number type, 0..255 -> float32 logits
    [batch, num_classes].
    """
    return BUILDERS[architecture.block](architecture, batch_norm_group_size)
