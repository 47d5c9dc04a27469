"""The inference model as an ONNX file in the layout of ONNX's runtimes: channels first, padding in numbers.

It is written node by node from the Keras layers. General converters start from TensorFlow's graph, and leave
transpositions and reductions in it that cost time. This converter has the few kinds of layers of our models.
"""

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from efficientnet_tpu.data.split import LABELS_TXT
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import digest
from efficientnet_tpu.exporting.classifier import ExportedModel, prepared_by_tensorflow
from efficientnet_tpu.exporting.inference_model import parents
from efficientnet_tpu.exporting.metadata import (
    DIGEST_PROPERTY,
    METADATA_JSON,
    ExportMetadata,
    foreign_file,
    read_metadata,
)
from efficientnet_tpu.installation import install_command

# Versions of 2021, which every maintained runtime reads.
OPSET, IR_VERSION = 17, 8
INPUT = "pixels"  # not "images", as the first layer is called: a name stands for one tensor
TENSOR_FLOAT = 1  # onnx.TensorProto.FLOAT


def file_content(model: keras.Model, metadata: ExportMetadata) -> bytes:
    """Returns the bytes of an ONNX model: uint8 [batch, size, size, 3] -> float32 [batch, num_classes].

    Its properties are labels.txt, classifier.json, labels as JSON and, at the file's end, the place for its digest.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph(metadata.resolution)
    for layer in model.operations:
        graph.add(layer)
    size, last = metadata.resolution, model.operations[-1].name
    written = helper.make_graph(
        graph.nodes,
        metadata.model,
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", size, size, 3])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", len(metadata.label_names)])],
        graph.constants,
    )
    whole = helper.make_model(written, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    whole.producer_name = "efficientnet_tpu"
    # The names as JSON too: what reads a property would have to know that lines end with \n.
    labels = json.dumps(metadata.label_names)
    helper.set_model_props(whole, {**metadata.as_texts(), "labels": labels, DIGEST_PROPERTY: digest.PLACE})
    onnx.checker.check_model(whole)
    return whole.SerializeToString()


def load(content: bytes, path: str) -> ExportedModel:
    """Loads an ONNX file by onnxruntime, on the CPU. path: for messages."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = _session(content)
    properties = session.get_modelmeta().custom_metadata_map
    texts = {name: properties[name] for name in (LABELS_TXT, METADATA_JSON) if name in properties}
    metadata = read_metadata(texts, path)
    [given], [wanted] = session.get_inputs(), session.get_outputs()
    if (given.type, given.shape[1:]) != ("tensor(uint8)", [metadata.resolution, metadata.resolution, 3]):
        raise foreign_file(path, "it takes other tensors")

    def make_embed() -> Callable[[np.ndarray], list[np.ndarray]]:
        features, changed = _with_features(content, path)
        both = _session(changed)
        return lambda images: both.run([wanted.name, features], {given.name: images})

    return prepared_by_tensorflow(
        metadata, lambda images: session.run([wanted.name], {given.name: images})[0], make_embed
    )


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # A thread that spins while it waits takes the core that decodes the next batch.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _with_features(content: bytes, path: str) -> tuple[str, bytes]:
    """Returns the name of what the last layer of a model takes, and the model with that as a second output."""
    try:
        import onnx
    except ImportError as error:
        need = f"--saved_model={path}: --embeddings needs onnx, which is not installed"
        raise UserError(f"{need}: {install_command('onnx')}") from error
    model = onnx.load_model_from_string(content)
    last = next((node for node in reversed(model.graph.node) if node.op_type == "Gemm"), None)
    if last is None:
        raise foreign_file(path, "it has no dense layer, whose input the features are")
    model.graph.output.append(onnx.helper.make_tensor_value_info(last.input[0], TENSOR_FLOAT, ["batch", None]))
    return last.input[0], model.SerializeToString()


class _Graph:
    """The nodes and constants so far. A layer's output tensor has the layer's name. All maps are square."""

    def __init__(self, size: int) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._sides: dict[str, int] = {}  # of the maps, by the names of their tensors
        self._size = size

    def add(self, layer: keras.layers.Layer) -> None:
        """Adds a layer, after the layers that it takes inputs from.

        Raises NotImplementedError for a kind of layer that our models do not have.
        """
        kind = next((kind for kind in _LAYERS if isinstance(layer, kind)), None)
        if kind is None:
            raise NotImplementedError(f"{layer.name}: ONNX export knows no {type(layer).__name__}")
        inputs = [before.name for before in parents(layer)]
        self._sides[layer.name] = self._sides[inputs[0]] if inputs else self._size
        _LAYERS[kind](self, layer, inputs)

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Adds a node by the names of its tensors, and returns the name of its output."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"{output}:{operator}", **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        """Adds a constant, stored as float32 [...] whatever the dtype of `value`, and returns its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def activation(self, function: str, given: str, output: str) -> str:
        """Adds an activation by the name of Keras' function, and returns the name of its output."""
        if function == "silu":
            gate = self.node("Sigmoid", [given], f"{output}/sigmoid")
            return self.node("Mul", [given, gate], output)
        if function == "relu6":
            limits = [self.constant(f"{output}/{name}", np.array(limit)) for name, limit in (("low", 0), ("high", 6))]
            return self.node("Clip", [given, *limits], output)
        operators = {"relu": "Relu", "sigmoid": "Sigmoid", "linear": "Identity"}
        if function not in operators:
            raise NotImplementedError(f"{output}: ONNX export knows no activation {function}")
        return self.node(operators[function], [given], output)

    def windows(self, layer: keras.layers.Layer, kernel_size: tuple[int, int]) -> dict[str, list[int]]:
        """Returns a window's size, its strides and TensorFlow's padding: the larger half is at the bottom and right."""
        before, stride = self._sides[layer.name], layer.strides[0]
        valid = layer.padding == "valid"
        after = (before - kernel_size[0]) // stride + 1 if valid else -(-before // stride)
        padding = 0 if valid else max((after - 1) * stride + kernel_size[0] - before, 0)
        self._sides[layer.name] = after
        low, high = padding // 2, padding - padding // 2
        return {"kernel_shape": [*kernel_size], "strides": [stride, stride], "pads": [low, low, high, high]}


def _convolution(graph: _Graph, layer: layers.Conv2D, inputs: list[str]) -> None:
    """Adds a convolution; a depthwise one has a group for every channel.

    Kernels change from [rows, columns, in, out] to [out, in of the group, rows, columns].
    """
    kernel, name = layer.kernel.numpy(), layer.name
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    axes, group = ((2, 3, 0, 1), kernel.shape[2]) if depthwise else ((3, 2, 0, 1), 1)
    weights = [graph.constant(f"{name}/kernel", kernel.transpose(axes))]
    if layer.use_bias:
        weights.append(graph.constant(f"{name}/bias", layer.bias.numpy()))
    function = layer.activation.__name__
    output = name if function == "linear" else f"{name}/linear"
    graph.node("Conv", [*inputs, *weights], output, group=group, **graph.windows(layer, layer.kernel_size))
    if function != "linear":
        graph.activation(function, output, name)


_LAYERS: dict[type, Callable[[_Graph, Any, list[str]], None]] = {
    # Moved as bytes, not as floats.
    layers.InputLayer: lambda graph, layer, _: graph.node(
        "Cast",
        [graph.node("Transpose", [INPUT], f"{layer.name}/channels_first", perm=[0, 3, 1, 2])],
        layer.name,
        to=TENSOR_FLOAT,
    ),
    layers.Normalization: lambda graph, layer, inputs: graph.node(
        "Div",
        [
            graph.node(
                "Sub",
                [*inputs, graph.constant(f"{layer.name}/mean", np.reshape(layer.mean, (-1, 1, 1)))],
                f"{layer.name}/centred",
            ),
            graph.constant(f"{layer.name}/std", np.sqrt(np.reshape(layer.variance, (-1, 1, 1)))),
        ],
        layer.name,
    ),
    layers.DepthwiseConv2D: _convolution,
    layers.Conv2D: _convolution,
    layers.Activation: lambda graph, layer, inputs: graph.activation(layer.activation.__name__, *inputs, layer.name),
    layers.MaxPooling2D: lambda graph, layer, inputs: graph.node(
        "MaxPool", inputs, layer.name, **graph.windows(layer, layer.pool_size)
    ),
    layers.GlobalAveragePooling2D: lambda graph, layer, inputs: (
        graph.node("GlobalAveragePool", inputs, layer.name)
        if layer.keepdims
        else graph.node("Flatten", [graph.node("GlobalAveragePool", inputs, f"{layer.name}/map")], layer.name)
    ),
    layers.Multiply: lambda graph, layer, inputs: graph.node("Mul", inputs, layer.name),
    layers.Add: lambda graph, layer, inputs: graph.node("Add", inputs, layer.name),
    layers.Dense: lambda graph, layer, inputs: graph.node(
        "Gemm",
        [
            *inputs,
            graph.constant(f"{layer.name}/kernel", layer.kernel.numpy()),
            graph.constant(f"{layer.name}/bias", layer.bias.numpy()),
        ],
        layer.name,
    ),
    layers.Softmax: lambda graph, layer, inputs: graph.node("Softmax", inputs, layer.name, axis=-1),
}
