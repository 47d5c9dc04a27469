"""The door to the fused gradients: makes the layers of a plain network train by them.

A fused gradient gives the numbers of TensorFlow's own in less time: on TPUs by reading less memory, on CPUs by better
kernels. Nothing in this folder is needed to understand the network.
"""

import keras

from efficientnet_tpu.models.architecture import Architecture, MBConvSpec
from efficientnet_tpu.models.fused.batch_norm_kernel import FusedBatchNormalization
from efficientnet_tpu.models.fused.cpu_gradients import DepthwiseConv2D, Swish
from efficientnet_tpu.models.fused.excite_project import Excitation, KeepingBatchNormalization, ProjectingConv2D
from efficientnet_tpu.models.fused.expand_conv_bn import ExpandingBatchNormalization, ExpandingConv2D
from efficientnet_tpu.models.layers import BatchNormalization


def connect(model: keras.Model, architecture: Architecture) -> None:
    """Makes the layers of a built model train by the fused gradients.

    Each layer becomes one of a subclass, as which it keeps its name, weights and settings: only `call` differs. Keras
    has no other way to exchange a layer in a model that is built, short of new weights. Evaluation computes as before.
    """
    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            layer.__class__ = FusedBatchNormalization
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            layer.__class__ = DepthwiseConv2D
        elif isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.silu:
            # Other activations, ReLU6 of Lite say, have a gradient of one pass already.
            layer.__class__ = Swish
    for index, block in enumerate(architecture.blocks):
        if isinstance(block, MBConvSpec):
            prefix = f"block_{index}_"
            layers = [layer for layer in model.layers if layer.name.startswith(prefix)]
            parts = {layer.name.removeprefix(prefix): layer for layer in layers}
            # A narrow input is what makes the fused gradient cheap. The head's 1x1 convolution is wide on both sides.
            if block.expand_ratio != 1:
                parts["expand_conv"].__class__ = ExpandingConv2D
                parts["expand_bn"].__class__ = ExpandingBatchNormalization
                parts["expand_bn"].convolution_name = parts["expand_conv"].name
            # Without a gate nothing is to be won, and the gradient of the end of a block is derived for swish.
            if block.se_filters and architecture.activation == "silu":
                norm, squeeze, projection = parts["depthwise_bn"], parts["se_squeeze"], parts["project_conv"]
                norm.__class__ = KeepingBatchNormalization
                projection.__class__ = ProjectingConv2D
                projection.excitation = Excitation(norm.name, squeeze.name, (parts["se_reduce"], parts["se_expand"]))
