"""What other programs call the weights of an EfficientNet: one `Naming` each, from our layers to their tensors.

Sources: the layer names keras.applications gives, the variable names of the reference's checkpoints (tensorflow/tpu),
timm's `tf_efficientnet_*`, and EfficientNet-PyTorch with its relative for Lite.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.weights.layer_specs import WeightedLayer, weighted_layers

# How the axes of a stored tensor are to be put for Keras.
LAYOUTS: dict[str, tuple[int, ...] | None] = {
    "as it is": None,
    "conv OIHW": (2, 3, 1, 0),
    "depthwise C1HW": (2, 3, 0, 1),
    "dense OI": (1, 0),
}


@dataclass(frozen=True)
class StoredName:
    """Where a weight of ours is in a file, and how its axes lie there."""

    name: str
    layout: str  # of LAYOUTS

    def shape_as_ours(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The shape in Keras' layout of a stored one; None when it has another number of axes."""
        axes = LAYOUTS[self.layout]
        if axes is None:
            return shape
        return tuple(shape[axis] for axis in axes) if len(shape) == len(axes) else None

    def as_ours(self, array: np.ndarray) -> np.ndarray:
        """float32, in Keras' layout."""
        axes = LAYOUTS[self.layout]
        return np.asarray(array if axes is None else array.transpose(axes), np.float32)


@dataclass(frozen=True)
class Naming:
    """One program's names."""

    title: str
    layer_names: Callable[[Sequence[WeightedLayer]], list[str]]
    # By kind of layer: our variable -> what stands behind the layer's name, and the layout.
    variables: Mapping[str, Mapping[str, tuple[str, str]]]
    marker: re.Pattern  # some tensor of every file of the kind matches
    ignored: re.Pattern | None = None  # tensors that are not needed

    def stored_names(self, architecture: Architecture) -> dict[str, StoredName]:
        """For every weight of our model, by layer/variable: its name and layout in the file."""
        layers = weighted_layers(architecture)
        return {
            f"{layer.name}/{variable}": StoredName(name + suffix, layout)
            for layer, name in zip(layers, self.layer_names(layers), strict=True)
            for variable, (suffix, layout) in self.variables[layer.kind].items()
        }

    def recognises(self, names: Iterable[str]) -> bool:
        """Whether a file with tensors of these names is of the kind."""
        return any(self.marker.search(name) for name in names)


def _one_by_one(name_of: Callable[[WeightedLayer], str]) -> Callable[[Sequence[WeightedLayer]], list[str]]:
    return lambda layers: [name_of(layer) for layer in layers]


def _variables(separator: str, norm: str, kinds: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Tables of the two worlds: Keras' names and layouts, or PyTorch's."""
    conv, depthwise, dense = {
        "keras": ("as it is", "as it is", "as it is"),
        "torch": ("conv OIHW", "depthwise C1HW", "dense OI"),
    }[kinds]
    kernel, bias = {"keras": ("kernel", "bias"), "torch": ("weight", "bias")}[kinds]
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
_KERAS_ROLES = {"depthwise_conv": "dwconv", "depthwise_bn": "bn", "classifier": "predictions"}
_KERAS_HEAD = {"head_conv": "top_conv", "head_bn": "top_bn"}


def _keras_layer(layer: WeightedLayer) -> str:
    role = _KERAS_ROLES.get(layer.role, layer.role)
    if layer.place is None:
        return _KERAS_HEAD.get(role, role)
    return f"block{layer.place.stage + 1}{chr(ord('a') + layer.place.in_stage)}_{role}"


KERAS_APPLICATIONS = Naming(
    "keras.applications",
    _one_by_one(_keras_layer),
    _variables("/", _KERAS_NORM, "keras"),
    marker=re.compile(r"^block1a_dwconv/"),
    ignored=re.compile(r"^(normalization(_\d+)?/|optimizer/)|/seed_generator/"),
)


# Reference checkpoints: blocks_3/conv2d_1/kernel, blocks_3/se/conv2d/bias, head/dense/kernel. What precedes (the
# model's name, sometimes /model) and what follows (/ExponentialMovingAverage) is taken off when the file is read.
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
    """TensorFlow 1 numbers the layers of a type within a block: conv2d is the expansion, or without one the
    projection.
    """
    names = []
    for place, of_block in itertools.groupby(layers, key=lambda layer: layer.place):
        counts = {"conv": 0, "batch_norm": 0}
        for layer in of_block:
            if layer.role in _TF1_FIXED:
                name = _TF1_FIXED[layer.role]
            else:
                number = counts[layer.kind]
                counts[layer.kind] += 1
                stem = {"conv": "conv2d", "batch_norm": "tpu_batch_normalization"}[layer.kind]
                name = f"{stem}_{number}" if number else stem
            names.append(name if place is None else f"blocks_{place.block}/{name}")
    return names


REFERENCE_CHECKPOINT = Naming(
    "TensorFlow 1 reference checkpoint",
    _tf1_layers,
    {**_variables("/", _KERAS_NORM, "keras"), "depthwise": {"kernel": ("/depthwise_kernel", "as it is")}},
    marker=re.compile(r"^blocks_0/"),
)


# timm: blocks.2.1.conv_pwl.weight. Its first stage has no expansion, and so other names.
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
_TIMM_EXPANDED = {
    "expand_conv": "conv_pw",
    "expand_bn": "bn1",
    "depthwise_bn": "bn2",
    "project_conv": "conv_pwl",
    "project_bn": "bn3",
}
_TIMM_FIRST = {"depthwise_bn": "bn1", "project_conv": "conv_pw", "project_bn": "bn2"}


def _timm_layer(layer: WeightedLayer) -> str:
    place = layer.place
    if place is None:
        return _TIMM_FIXED[layer.role]
    role = _TIMM_FIXED.get(layer.role) or (_TIMM_EXPANDED if place.expands else _TIMM_FIRST)[layer.role]
    return f"blocks.{place.stage}.{place.in_stage}.{role}"


_TORCH_COUNTERS = re.compile(r"\.num_batches_tracked$")
TIMM = Naming(
    "timm",
    _one_by_one(_timm_layer),
    _variables(".", _TORCH_NORM, "torch"),
    marker=re.compile(r"^blocks\.0\.0\."),
    ignored=_TORCH_COUNTERS,
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


def _pytorch_layer(layer: WeightedLayer) -> str:
    role = _PYTORCH_ROLES.get(layer.role, f"_{layer.role}")
    return role if layer.place is None else f"_blocks.{layer.place.block}.{role}"


EFFICIENTNET_PYTORCH = Naming(
    "EfficientNet-PyTorch",
    _one_by_one(_pytorch_layer),
    _variables(".", _TORCH_NORM, "torch"),
    marker=re.compile(r"^_blocks\.0\."),
    ignored=_TORCH_COUNTERS,
)

NAMINGS = (KERAS_APPLICATIONS, REFERENCE_CHECKPOINT, TIMM, EFFICIENTNET_PYTORCH)
