"""Reads the description of a model that Keras stores beside its weights, as data: nothing in it is executed.

It says what the weights alone do not: how pixels are scaled before the first convolution, and how the features are
pooled before the classifier.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_CONTAINERS = ("Functional", "Model", "Sequential")
_MAX_CHARACTERS = 32 << 20  # of JSON: B7 has 1.2 million
_MAX_STEPS = 1000  # from one layer to another; no chain of a network is as long
# Classes of Keras' own, without anybody's code: layers, then what describes them. Keras may load a model of these.
_PLAIN = {
    *("Functional", "Model", "Sequential", "InputLayer", "Rescaling", "Normalization", "ZeroPadding2D", "Conv2D"),
    *("DepthwiseConv2D", "BatchNormalization", "Activation", "Softmax", "Reshape", "Flatten", "Multiply", "Add"),
    *("GlobalAveragePooling2D", "GlobalMaxPooling2D", "Dropout", "SpatialDropout2D", "GaussianNoise", "Dense"),
    *("Resizing", "CenterCrop", "RandomFlip", "RandomRotation", "RandomZoom", "RandomContrast", "RandomTranslation"),
    *("RandomBrightness", "RandomCrop", "RandomHeight", "RandomWidth"),
    *("DTypePolicy", "Policy", "__keras_tensor__", "GlorotUniform", "GlorotNormal", "HeNormal", "HeUniform", "Zeros"),
    *("Ones", "Constant", "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling", "L1", "L2", "L1L2"),
}  # fmt: skip


@dataclass(frozen=True)
class GraphLayer:
    """A layer: its own name, its class and options, and the keys of the layers that it takes its input from."""

    name: str
    class_name: str
    config: Mapping[str, Any]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class KerasGraph:
    """The layers of a model, also those of models within it.

    layers: by key, the names of the models around a layer and its own.
    aliases: from the keys of models and their inputs to those of the layers that they stand for.
    output: the key of the model's output.
    is_plain: whether all classes are Keras' own, so that Keras may load the model.
    """

    layers: Mapping[str, GraphLayer]
    aliases: Mapping[str, str]
    output: str
    is_plain: bool

    def before(self, name: str) -> Iterator[GraphLayer]:
        """Yields the layers before the one of this name, backwards, as far as each has one input.

        Raises ValueError if there is not exactly one layer of this name.
        """
        keys = [key for key, layer in self.layers.items() if layer.name == name]
        if len(keys) != 1:
            raise ValueError(f"{len(keys)} layers are called {name:.100}")
        yield from self._backwards(self.layers[keys[0]].inputs)

    def outputs(self) -> Iterator[GraphLayer]:
        """Yields the layers from the model's output backwards, as far as each has one input."""
        yield from self._backwards((self.output,))

    def _backwards(self, inputs: tuple[str, ...]) -> Iterator[GraphLayer]:
        for _ in range(_MAX_STEPS):
            if len(inputs) != 1:
                return
            layer = self.layers[self._resolved(inputs[0])]
            yield layer
            inputs = layer.inputs
        raise ValueError("the layers form a circle")

    def _resolved(self, key: str) -> str:
        for _ in range(_MAX_STEPS):
            if key not in self.aliases:
                return key
            key = self.aliases[key]
        raise ValueError("the layers form a circle")


def read_graph(text: str | bytes) -> KerasGraph | None:
    """Returns the graph in a model's JSON, None for a model of a class that does not list its layers.

    Raises ValueError or LookupError for any other text.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ValueError("the description of the model is longer than a network's")
    config = json.loads(text)
    layers: dict[str, GraphLayer] = {}
    aliases: dict[str, str] = {}
    try:
        if config["class_name"] not in _CONTAINERS:
            return None
        output = _flatten(config, "", (), layers, aliases)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"the description of the model is damaged: {error}") from error
    return KerasGraph(layers, aliases, output, _is_plain(config))


def _flatten(
    model: Any, scope: str, outer: tuple[str, ...], layers: dict[str, GraphLayer], aliases: dict[str, str]
) -> str:
    """Adds the layers of a model to `layers` and `aliases`; returns the key of its output.

    scope: what precedes its layers' names. outer: the keys of what it is called with, none for the whole model.
    """
    is_sequence, previous = model["class_name"] == "Sequential", outer
    for entry in model["config"]["layers"]:
        class_name, config = entry["class_name"], entry["config"]
        name = str(entry.get("name") or config.get("name") or f"input_{len(layers)}")
        key = f"{scope}{name}"
        inputs = previous
        if not is_sequence:
            nodes = entry.get("inbound_nodes") or []
            inputs = tuple(f"{scope}{history}" for history in _histories(nodes[:1]))
        if class_name in _CONTAINERS:
            aliases[key] = _flatten(entry, f"{key}/", inputs, layers, aliases)
        elif class_name == "InputLayer" and outer:
            aliases[key] = outer[0]
        else:
            layers[key] = GraphLayer(name, str(class_name), config, () if class_name == "InputLayer" else inputs)
        previous = (key,)
    if is_sequence:
        return previous[0]
    return f"{scope}{next(_histories(model['config']['output_layers']))}"


def _histories(node: Any) -> Iterator[str]:
    """Yields the names of layers that a node refers to: in Keras 3 below keras_history, before [name, 0, 0, ...]."""
    if isinstance(node, dict):
        if "keras_history" in node:
            yield str(node["keras_history"][0])
        else:
            for value in node.values():
                yield from _histories(value)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and all(type(number) is int for number in node[1:3]):
            yield node[0]
        else:
            for value in node:
                yield from _histories(value)


def _is_plain(node: Any) -> bool:
    """Returns whether all classes in a description are known ones of Keras' own."""
    if isinstance(node, dict):
        if "class_name" in node:
            module, registered = node.get("module"), node.get("registered_name")
            is_keras = module is None or str(module).partition(".")[0] == "keras"
            if node["class_name"] not in _PLAIN or not is_keras or ">" in str(registered):
                return False
        return all(map(_is_plain, node.values()))
    return not isinstance(node, list) or all(map(_is_plain, node))
