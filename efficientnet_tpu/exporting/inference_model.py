"""Makes the network for inference of a trained one: batch norm folded into convolutions, no dropout.

It consists of Keras' own layers alone, so that a file of it loads without this package.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from efficientnet_tpu.models.layers import BatchNormalization, Dropout

# A graph is a protocol buffer, which holds 2 GB.
LARGEST_GRAPH = 1_900_000_000  # bytes of weights


def inference_model(model: keras.Model) -> keras.Model:
    """Builds a model of the same function, with the softmax: images [batch, height, width, 3], 0..255 ->
    probabilities float32 [batch, num_classes].

    In inference batch norm is x * scale + offset by channel, which the convolution before it does with other weights
    and a bias. Raises ValueError for a batch norm that follows anything else.
    """
    norms: dict[str, BatchNormalization] = {}  # by the name of the convolution before it
    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            [before] = parents(layer)
            folds = isinstance(before, layers.Conv2D | layers.DepthwiseConv2D) and not before.use_bias
            if not folds or before.name in norms:
                raise ValueError(f"{layer.name}: follows {before.name}, into which it cannot be folded")
            norms[before.name] = layer

    def counterpart(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, BatchNormalization | Dropout):
            return layers.Identity(name=layer.name)
        settings = layer.get_config()
        if layer.name in norms:
            settings["use_bias"] = True
        # A layer of `models/fused` is a subclass of the stock one.
        kinds = (layers.DepthwiseConv2D, layers.Conv2D, layers.Activation)
        stock = next((kind for kind in kinds if isinstance(layer, kind)), type(layer))
        return stock.from_config(settings)

    twin = keras.models.clone_model(
        model,
        clone_function=counterpart,
        # What was left out passes its input on, without a layer in the twin.
        call_function=lambda layer, *inputs, **_: inputs[0] if isinstance(layer, layers.Identity) else layer(*inputs),
    )
    for layer in twin.layers:
        original = model.get_layer(layer.name)
        if layer.name in norms:
            layer.set_weights(_folded(original, norms[layer.name]))
        elif layer.weights:
            layer.set_weights(original.get_weights())
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(twin.output)
    return keras.Model(twin.input, probabilities, name=model.name)


def can_be_frozen(model: keras.Model) -> bool:
    """Returns whether the weights of a model may be constants of a graph; above that they have to stay variables."""
    return 4 * model.count_params() <= LARGEST_GRAPH


def frozen_function(model: keras.Model, spec: tf.TensorSpec) -> tf.types.experimental.ConcreteFunction:
    """Returns the model as a graph whose weights are constants, which TensorFlow rearranges once and not in every call.

    spec: of the images, [batch, height, width, 3]. The weights must fit into a protocol buffer, 2 GB. A model of
    several outputs gives a list.
    """
    function = tf.function(lambda images: model(images, training=False), input_signature=[spec], autograph=False)
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    graph = frozen.graph.as_graph_def()
    for node in graph.node:  # TensorFlow's swish has a custom gradient, which would have to be saved too
        node.attr.pop("_gradient_op_type", None)
    imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    [given] = frozen.inputs
    wanted = [imported.graph.get_tensor_by_name(output.name) for output in frozen.outputs]
    return imported.prune(imported.graph.get_tensor_by_name(given.name), wanted if len(wanted) > 1 else wanted[0])


def parents(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers whose outputs a layer of a functional model takes."""
    return [node.operation for node in layer._inbound_nodes[0].parent_nodes]


def _folded(convolution: keras.layers.Layer, norm: BatchNormalization) -> list[np.ndarray]:
    """Returns kernel and bias of a convolution that also does what a batch norm after it does.

    They are computed in float64, so that they are rounded once.
    """
    gamma, beta, mean, variance = (np.float64(weight.numpy()) for weight in norm.weights)
    scale = gamma / np.sqrt(variance + norm.epsilon)
    # The last axis of a depthwise kernel is its multiplier, 1; the one before it are the channels.
    by_channel = scale[:, np.newaxis] if isinstance(convolution, layers.DepthwiseConv2D) else scale
    return [np.float32(convolution.kernel.numpy() * by_channel), np.float32(beta - mean * scale)]
