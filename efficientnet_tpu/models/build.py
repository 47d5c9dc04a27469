"""The record of a whole network -> its Keras model, by the builder of its kind of blocks."""

import sys

import keras

from efficientnet_tpu.models import efficientnet, mobilenet, resnet
from efficientnet_tpu.models.architecture import Architecture

# Keras follows a network's layers by recursion, and does so again whenever a part of it is taken. A block is some
# fifteen layers; Python's own limit ends at six times B0's depth.
_CALLS_PER_BLOCK = 30

# By the network that the blocks say they belong to.
BUILDERS = {
    "efficientnet": efficientnet.build_model,
    "mobilenet": mobilenet.build_model,
    "resnet": resnet.build_model,
}


def build_model(architecture: Architecture, batch_norm_group_size: int = 1) -> keras.Model:
    """The classifier: images [batch, height, width, 3] of any size and number type, 0..255 -> float32 logits
    [batch, num_classes].
    """
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 1000 + _CALLS_PER_BLOCK * len(architecture.blocks)))
    return BUILDERS[architecture.blocks[0].network](architecture, batch_norm_group_size)
