"""keras.applications' EfficientNets: what their files say of pixels and head, their download, and Keras' own answers.

A model of keras.applications computes (x / 255 - mean) / sqrt(std), because its Normalization layer takes the standard
deviation as variance. With weights="imagenet" a layer Rescaling(1 / sqrt(std)) behind it corrects that; with
weights=None the layer does nothing, so that such models train on x / 255. Our model has the right constants from the
beginning, so an import drops these layers. Where a file describes its model, the layers say what it computes; a file of
weights alone is taken for the published kind, where it has their constants.
"""

import os
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import IMAGENET_MEAN, IMAGENET_STD, NUM_IMAGENET_CLASSES, Architecture
from efficientnet_tpu.models.compound_scaling import NORMALIZATIONS, find_variant
from efficientnet_tpu.storage.temporary_directory import temporary_directory
from efficientnet_tpu.weights.readers.keras_graph import GraphLayer, KerasGraph
from efficientnet_tpu.weights.readers.stored_tensor import StoredTensors, in_memory

_MEAN, _STD = np.array(IMAGENET_MEAN) / 255, np.array(IMAGENET_STD) / 255
_FIRST, _LAST = "stem_conv", "top_activation"  # layers of every EfficientNet of keras.applications
# Layers that do nothing when a model predicts; Resizing is what our own preprocessing does.
_IDLE = ("InputLayer", "Dropout", "SpatialDropout2D", "GaussianNoise", "Resizing")
_AFTER_CLASSIFIER = ("Activation", "Softmax")
_ACTIVATIONS = ("linear", "softmax", "sigmoid", None)


def stated_options(
    path: str, graph: KerasGraph | None, tensors: StoredTensors, architecture: Architecture
) -> dict[str, Any]:
    """Returns the flags of the preprocessing that belongs to a file, where they are not the model's own.

    They are normalization and, of square images, resolution. Raises UserError for pixels that are normalized in a way
    that has no name here, ValueError for a damaged file.
    """
    own = find_variant(architecture.name)
    if own.mean != IMAGENET_MEAN:
        raise UserError(f"{path}: keras.applications has B0 to B7; --model={architecture.name} is none of them.")
    statistics = _statistics(tensors)
    if graph is None:
        mean, std = _published_constants(*next(iter(statistics.values())))
    else:
        mean, std = _graph_constants(path, graph, statistics)
    fitting = [
        name for name, values in NORMALIZATIONS.items() if np.allclose((mean, std), values, rtol=1e-3, atol=0.03)
    ]
    if not fitting:
        raise UserError(
            f"{path}: these weights expect images normalised as (x - mean) / std with mean {_rounded(mean)} and std "
            f"{_rounded(std)} of pixels from 0 to 255; --normalization has nothing of that kind."
        )
    options = {} if fitting[0] == "imagenet" else {"normalization": fitting[0]}
    height, width = input_size(graph) or (0, 1)
    return options | ({"resolution": height} if height == width else {})


def input_size(graph: KerasGraph | None) -> tuple[int, int] | None:
    """Returns height and width of the images that a model takes, None where it takes any."""
    if graph is None:
        return None
    first = list(graph.before(_FIRST))[-1]
    shape = first.config.get("batch_shape") or first.config.get("batch_input_shape")
    if not isinstance(shape, list) or len(shape) != 4 or not all(type(side) is int for side in shape[1:3]):
        return None
    return shape[1], shape[2]


def head_problem(graph: KerasGraph, layer: str) -> str:
    """Returns what keeps a Dense layer from being a classifier over the averaged features, empty if nothing does."""
    classes = []
    found = False
    for one in graph.outputs():
        if one.name == _LAST:
            break
        found |= one.name == layer
        if one.name == layer and one.config.get("activation", "linear") not in _ACTIVATIONS:
            return f"the activation {one.config['activation']!r:.40} behind it"
        is_idle = one.class_name in (_IDLE if found else _AFTER_CLASSIFIER) or one.name == layer
        if not is_idle and not (found and one.class_name == "Flatten"):
            classes.append(one.class_name)
    else:
        return "another way from the features to the output"
    return "" if found and classes == ["GlobalAveragePooling2D"] else f"{', '.join(classes)} beside it"


def _statistics(tensors: StoredTensors) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns mean and variance, float64 [3], of each layer normalization. Raises ValueError without any."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        layer, _, variable = name.rpartition("/")
        if layer.partition("_")[0] == "normalization" and variable in ("mean", "variance"):
            if int(np.prod(tensor.shape)) != 3:
                raise ValueError(f"{name} has the shape {tensor.shape}")
            found.setdefault(layer, {})[variable] = np.asarray(tensor.read(), np.float64).reshape(3)
    if not found or any(len(values) != 2 for values in found.values()):
        raise ValueError("the layer normalization of keras.applications is missing")
    return {layer: (values["mean"], values["variance"]) for layer, values in found.items()}


def _published_constants(mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and deviation, in units of 0..255, that belong to weights alone with these statistics.

    The published files hold the deviation as variance, and belong to a model that corrects it.
    """
    if np.allclose(mean, _MEAN, atol=1e-4) and np.allclose(variance, _STD, atol=1e-4):
        variance = _STD**2
    return 255 * mean, 255 * np.sqrt(variance)


def _graph_constants(
    path: str, graph: KerasGraph, statistics: dict[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and deviation, in units of 0..255, that the layers before the first convolution amount to."""
    scale, offset = np.ones(3), np.zeros(3)
    for layer in reversed(list(graph.before(_FIRST))):
        if layer.class_name == "Rescaling":
            factor = np.broadcast_to(np.asarray(layer.config["scale"], np.float64), 3)
            scale, offset = scale * factor, offset * factor + np.asarray(layer.config["offset"], np.float64)
        elif layer.class_name == "Normalization" and not layer.config.get("invert"):
            mean, variance = statistics.get(layer.name) or _given_statistics(layer)
            scale, offset = scale / np.sqrt(variance), (offset - mean) / np.sqrt(variance)
        elif (
            layer.class_name not in _IDLE
            and not layer.class_name.startswith("Random")
            and layer.name != "stem_conv_pad"
        ):
            raise UserError(
                f"{path}: between the pixels and the first convolution is a layer {layer.class_name:.60} "
                f"({layer.name:.60}), which this program does not compute. Import the model without it."
            )
    return -offset / scale, 1 / scale


def _given_statistics(layer: GraphLayer) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and variance, float64 [3], that a Normalization layer was built with."""
    mean, variance = (
        np.broadcast_to(np.asarray(layer.config[key], np.float64).reshape(-1), 3) for key in ("mean", "variance")
    )
    return mean, variance


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def build(architecture: Architecture, num_classes: int, weights: str | None = None) -> Any:
    """Builds keras.applications' model of the same name. It returns logits."""
    make = getattr(keras.applications, f"EfficientNet{architecture.name.removeprefix('efficientnet-').upper()}", None)
    if make is None:
        raise UserError(f"--model={architecture.name}: keras.applications has B0 to B7 only.")
    return make(weights=weights, classes=num_classes, classifier_activation=None)


def download(architecture: Architecture) -> StoredTensors:
    """Returns the ImageNet weights that keras.applications downloads, or has downloaded before."""
    try:
        model = build(architecture, NUM_IMAGENET_CLASSES, "imagenet")
    except UserError:
        raise
    except Exception as error:  # of whatever kind Keras and the network raise
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"--from=imagenet: keras.applications cannot download these weights: {reason:.300}. Without a network, "
            "name a file."
        ) from error
    return {
        f"{layer.name}/{weight.name}": in_memory(np.asarray(weight))
        for layer in model.layers
        for weight in layer.weights
    }


def load(file: str, tensors: StoredTensors, architecture: Architecture, num_classes: int) -> keras.Model:
    """Loads a file of weights into keras.applications' own model, which returns logits.

    tensors: what the file holds, by keras.applications' names; taken where Keras does not load a file of another
        arrangement of layers.
    """
    try:
        model = build(architecture, num_classes)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Keras warns of layers that it leaves as they are
            model.load_weights(file)
    except (ValueError, OSError, LookupError, Warning):
        model = build(architecture, architecture.num_classes)
        for layer in model.layers:
            for weight in layer.weights:
                stored = tensors.get(f"{layer.name}/{weight.name}")
                if stored is not None:
                    weight.assign(np.reshape(stored.read(), weight.shape))
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()
    return model


def load_whole(file: str, graph: KerasGraph) -> keras.Model:
    """Loads the model of a .keras archive or .h5 file by Keras, and returns it up to the logits.

    graph: of classes of Keras' own alone; others could hold code.
    """
    suffix = ".h5"
    with open(file, "rb") as opened:
        if opened.read(2) == b"PK":
            suffix = ".keras"
    with temporary_directory() as directory:
        link = os.path.join(directory, f"model{suffix}")  # Keras tells the kind by the name
        os.symlink(os.path.abspath(file), link)
        model = keras.models.load_model(link, compile=False)
    for layer in _all_layers(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # which Keras forgets for the models within the model of an .h5 file
    classifier = next(layer.name for layer in graph.outputs() if layer.class_name == "Dense")
    dense = next(layer for layer in _all_layers(model) if layer.name == classifier)
    dense.activation = keras.activations.linear
    # A softmax may follow as a layer of its own. A Dense within a model within the model has none, by `head_problem`.
    return keras.Model(model.inputs, dense.output) if dense in model.layers else model


def images_for(images: np.ndarray, model: keras.Model, architecture: Architecture) -> np.ndarray:
    """Returns images that keras.applications' model turns into what ours turns `images` into before its stem.

    A model that is built to load a file of weights normalizes by the file's own statistics, and lacks the layer
    Rescaling that would correct them.

    images: uint8 or float [batch, height, width, 3], 0..255. Returns float64 [batch, height, width, 3].
    """
    normalization = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance = (np.asarray(one, np.float64).reshape(3) for one in (normalization.mean, normalization.variance))
    normalized = (images - np.array(architecture.mean)) / np.array(architecture.std)
    return 255 * (mean + normalized * np.sqrt(variance))


def _all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields the layers of a model and of the models within it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)
