"""Builds the Keras model of a network by the builder of its kind of blocks."""

import sys

import keras

from efficientnet_tpu.models import efficientnet, mobilenet, resnet
from efficientnet_tpu.models.architecture import Architecture

# Keras walks the layers of a network recursively. A block is about 15 layers, so Python's default recursion limit is
# reached at six times B0's depth.
_CALLS_PER_BLOCK = 30

# By the network that the blocks say they belong to.
BUILDERS = {
    "efficientnet": efficientnet.build_model,
    "mobilenet": mobilenet.build_model,
    "resnet": resnet.build_model,
}


def build_model(architecture: Architecture, batch_norm_group_size: int = 1) -> keras.Model:
    """Builds the classifier.

    Its inputs are images, [batch, height, width, 3] of any size and number type, 0..255. Its outputs are float32
    logits, [batch, num_classes].

    batch_norm_group_size: how many replicas share the statistics of batch norm; outside tf.distribute it is 1.
    """
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 1000 + _CALLS_PER_BLOCK * len(architecture.blocks)))
    return BUILDERS[architecture.blocks[0].network](architecture, batch_norm_group_size)
