"""The names that other programs give to the weights of an EfficientNet, one `NamingScheme` for each program.

Sources: the layer names of keras.applications, the variable names of the reference's checkpoints (tensorflow/tpu),
timm's `tf_efficientnet_*`, and EfficientNet-PyTorch with its relative for Lite.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.weights.layer_specs import WeightedLayer, weighted_layers

# The transposition that brings a stored tensor into Keras' layout.
LAYOUTS: dict[str, tuple[int, ...] | None] = {
    "as it is": None,
    "conv OIHW": (2, 3, 1, 0),
    "depthwise C1HW": (2, 3, 0, 1),
    "dense OI": (1, 0),
}


@dataclass(frozen=True)
class StoredName:
    """The name and the layout, a key of LAYOUTS, of one of our weights in a file."""

    name: str
    layout: str

    def keras_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Returns a stored shape in Keras' layout, or None if it has the wrong number of axes."""
        axes = LAYOUTS[self.layout]
        if axes is None:
            return shape
        return tuple(shape[axis] for axis in axes) if len(shape) == len(axes) else None

    def to_keras_layout(self, array: np.ndarray) -> np.ndarray:
        """Returns a stored tensor in Keras' layout.

        array: any float type, with the axes of `layout`; for "conv OIHW" [outputs, inputs, height, width].
        Returns float32, for that layout [height, width, inputs, outputs].
        """
        axes = LAYOUTS[self.layout]
        return np.asarray(array if axes is None else array.transpose(axes), np.float32)


@dataclass(frozen=True)
class NamingScheme:
    """The names of one program.

    layer_names: from our layers to the program's names of them.
    variables: by kind of layer, our variable -> what follows the layer's name, and the layout.
    marker: matches the name of some tensor of every file of the program, from its beginning or behind a prefix that a
        training put before all names.
    ignored: matches tensors that are no weights.
    backbone: matches the names of all layers but the classifier, of a network of any size. Where it is given, a file
        may have a head of its owner's.
    """

    title: str
    layer_names: Callable[[Sequence[WeightedLayer]], list[str]]
    variables: Mapping[str, Mapping[str, tuple[str, str]]]
    marker: re.Pattern
    ignored: re.Pattern | None = None
    backbone: re.Pattern | None = None

    def stored_names(self, architecture: Architecture) -> dict[str, StoredName]:
        """Returns the name and layout in the file of every weight of our model, by layer/variable."""
        layers = weighted_layers(architecture)
        return {
            f"{layer.name}/{variable}": StoredName(name + suffix, layout)
            for layer, name in zip(layers, self.layer_names(layers), strict=True)
            for variable, (suffix, layout) in self.variables[layer.kind].items()
        }

    def prefixes(self, names: Iterable[str]) -> list[str]:
        """Returns what stands before the program's names in a file, mostly nothing; an empty list for other files."""
        return sorted({match["prefix"] for name in names if (match := self.marker.match(name))})

    def is_backbone(self, name: str) -> bool:
        """Returns whether a tensor of this name belongs to the layers below the classifier, or is no weight."""
        patterns = (self.backbone, self.ignored)
        return any(pattern is not None and bool(pattern.search(name)) for pattern in patterns)


def _variable_names(separator: str, norm: str, framework: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Returns the `variables` of a scheme with Keras' names and layouts, or PyTorch's.

    norm: the names of gamma, beta, moving mean and moving variance.
    """
    conv, depthwise, dense = {
        "keras": ("as it is", "as it is", "as it is"),
        "torch": ("conv OIHW", "depthwise C1HW", "dense OI"),
    }[framework]
    kernel, bias = {"keras": ("kernel", "bias"), "torch": ("weight", "bias")}[framework]
    names = dict(zip(("gamma", "beta", "moving_mean", "moving_variance"), norm.split(), strict=True))
    return {
        "conv": {"kernel": (separator + kernel, conv)},
        "biased_conv": {"kernel": (separator + kernel, conv), "bias": (separator + bias, "as it is")},
        "depthwise": {"kernel": (separator + kernel, depthwise)},
        "dense": {"kernel": (separator + kernel, dense), "bias": (separator + bias, "as it is")},
        "batch_norm": {ours: (separator + theirs, "as it is") for ours, theirs in names.items()},
    }


_KERAS_NORM = "gamma beta moving_mean moving_variance"
_TORCH_NORM = "weight bias running_mean running_var"


# keras.applications: block3b_expand_conv/kernel, top_conv/kernel, predictions/bias
_KERAS_ROLES = {
    "depthwise_conv": "dwconv",
    "depthwise_bn": "bn",
    "head_conv": "top_conv",
    "head_bn": "top_bn",
    "classifier": "predictions",
}
KERAS_APPLICATIONS = NamingScheme(
    "keras.applications",
    lambda layers: [
        (f"block{layer.place.stage + 1}{chr(ord('a') + layer.place.in_stage)}_" if layer.place else "")
        + _KERAS_ROLES.get(layer.role, layer.role)
        for layer in layers
    ],
    _variable_names("/", _KERAS_NORM, "keras"),
    marker=re.compile(r"(?P<prefix>)block1a_dwconv/"),
    ignored=re.compile(r"^(normalization(_\d+)?/|optimizer/)|(^|/)seed_generator"),
    backbone=re.compile(r"^(block\d+[a-z]+_\w+|stem_conv|stem_bn|top_conv|top_bn)/"),
)


# Reference checkpoints: blocks_3/conv2d_1/kernel, blocks_3/se/conv2d/bias, head/dense/kernel. The reader strips what
# precedes (the model's name, sometimes /model) and what follows (/ExponentialMovingAverage).
_TF1_FIXED = {
    "stem_conv": "stem/conv2d",
    "stem_bn": "stem/tpu_batch_normalization",
    "head_conv": "head/conv2d",
    "head_bn": "head/tpu_batch_normalization",
    "classifier": "head/dense",
    "depthwise_conv": "depthwise_conv2d",
    "se_reduce": "se/conv2d",
    "se_expand": "se/conv2d_1",
}


def _tf1_layers(layers: Sequence[WeightedLayer]) -> list[str]:
    """Returns the reference's names. TensorFlow 1 numbers the layers of a type within a block.

    So conv2d is the expansion, or the projection of a block without one.
    """
    names = []
    for place, block_layers in itertools.groupby(layers, key=lambda layer: layer.place):
        counts = {"conv": 0, "batch_norm": 0}
        for layer in block_layers:
            if layer.role in _TF1_FIXED:
                name = _TF1_FIXED[layer.role]
            else:
                number = counts[layer.kind]
                counts[layer.kind] += 1
                stem = {"conv": "conv2d", "batch_norm": "tpu_batch_normalization"}[layer.kind]
                name = f"{stem}_{number}" if number else stem
            names.append(name if place is None else f"blocks_{place.block}/{name}")
    return names


REFERENCE_CHECKPOINT = NamingScheme(
    "TensorFlow 1 reference checkpoint",
    _tf1_layers,
    {**_variable_names("/", _KERAS_NORM, "keras"), "depthwise": {"kernel": ("/depthwise_kernel", "as it is")}},
    marker=re.compile(r"(?P<prefix>)blocks_0/"),
)


# timm: blocks.2.1.conv_pwl.weight. Blocks without expansion have other names.
_TIMM_FIXED = {
    "stem_conv": "conv_stem",
    "stem_bn": "bn1",
    "head_conv": "conv_head",
    "head_bn": "bn2",
    "classifier": "classifier",
    "se_reduce": "se.conv_reduce",
    "se_expand": "se.conv_expand",
    "depthwise_conv": "conv_dw",
}
_TIMM_WITH_EXPANSION = {
    "expand_conv": "conv_pw",
    "expand_bn": "bn1",
    "depthwise_bn": "bn2",
    "project_conv": "conv_pwl",
    "project_bn": "bn3",
}
_TIMM_WITHOUT_EXPANSION = {"depthwise_bn": "bn1", "project_conv": "conv_pw", "project_bn": "bn2"}


def _timm_layer(layer: WeightedLayer) -> str:
    place = layer.place
    if place is None:
        return _TIMM_FIXED[layer.role]
    role = (
        _TIMM_FIXED.get(layer.role) or (_TIMM_WITH_EXPANSION if place.expands else _TIMM_WITHOUT_EXPANSION)[layer.role]
    )
    return f"blocks.{place.stage}.{place.in_stage}.{role}"


_TORCH_COUNTERS = re.compile(r"\.num_batches_tracked$")
TIMM = NamingScheme(
    "timm",
    lambda layers: list(map(_timm_layer, layers)),
    _variable_names(".", _TORCH_NORM, "torch"),
    marker=re.compile(r"(?P<prefix>(\w+\.)*)blocks\.0\.0\.(conv|bn)"),
    ignored=_TORCH_COUNTERS,
    backbone=re.compile(r"^(blocks|conv_stem|bn1|conv_head|bn2)\."),
)


# EfficientNet-PyTorch, and efficientnet-lite-pytorch: _blocks.3._bn0.running_mean
_PYTORCH_ROLES = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "head_conv": "_conv_head",
    "head_bn": "_bn1",
    "classifier": "_fc",
    "expand_bn": "_bn0",
    "depthwise_bn": "_bn1",
    "project_bn": "_bn2",
}
EFFICIENTNET_PYTORCH = NamingScheme(
    "EfficientNet-PyTorch",
    lambda layers: [
        (f"_blocks.{layer.place.block}." if layer.place else "") + _PYTORCH_ROLES.get(layer.role, f"_{layer.role}")
        for layer in layers
    ],
    _variable_names(".", _TORCH_NORM, "torch"),
    marker=re.compile(r"(?P<prefix>(\w+\.)*)_blocks\.0\._"),
    ignored=_TORCH_COUNTERS,
    backbone=re.compile(r"^(_blocks|_conv_stem|_bn0|_conv_head|_bn1)\."),
)

NAMING_SCHEMES = (KERAS_APPLICATIONS, REFERENCE_CHECKPOINT, TIMM, EFFICIENTNET_PYTORCH)
