"""Takes off what a training puts around a network: a prefix of all names, and a head of its owner's.

PyTorch's wrappers put module., model.module., _orig_mod. and the like before every name. In place of the classifier
there may be a layer with any name; it is the classifier where it is the only layer with weights behind the pooled
features.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.weights.naming_schemes import NAMING_SCHEMES, NamingScheme, StoredName
from efficientnet_tpu.weights.readers.stored_tensor import StoredTensor, StoredTensors, in_memory

_KERNELS, _STATISTICS = {"weight", "kernel"}, {"running_mean", "moving_mean"}
# Programs whose EfficientNets have the same shapes and cannot be taken, by a name in every file of theirs.
_STRANGERS = {
    "features.1.0.block.0.0.weight": "torchvision's EfficientNet: its convolutions pad on all sides, where these "
    "pad as TensorFlow does, and B0 to B4 add 1e-5 instead of 1e-3 to variances, so that its weights would compute "
    "something else here",
    "efficientnet.embeddings.convolution.weight": "an EfficientNet of Hugging Face's transformers, whose names are not "
    "known here; the same weights are published by keras.applications (--from=imagenet)",
}
_WANTED = "What fits are the tf_efficientnet_* of timm, keras.applications' and the reference's own weights."
_MAX_NAMES = 5  # of a head in a message


@dataclass(frozen=True)
class Unwrapped:
    """The network in a file.

    tensors: of the network alone, by the names of the scheme.
    names: from those names to the file's, where they differ.
    not_needed: other names in the file.
    notes: lines that the user must see.
    has_single_output: whether its classifier has one output, for two classes.
    """

    naming_scheme: NamingScheme
    tensors: StoredTensors
    names: Mapping[str, str] = field(default_factory=dict)
    not_needed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    has_single_output: bool = False


def unwrap(
    path: str,
    tensors: StoredTensors,
    architecture: Architecture,
    head_problem: Callable[[str], str] = lambda layer: "",
) -> Unwrapped:
    """Returns the network in a file.

    head_problem: from a layer's name to what keeps it from being the classifier, where more is known than the weights.
    Raises UserError for a file without a network of a known kind, or with several.
    """
    naming_scheme, prefixes = next(
        ((scheme, prefixes) for scheme in NAMING_SCHEMES if (prefixes := scheme.prefixes(tensors))), (None, [])
    )
    if naming_scheme is None:
        raise _unknown(path, tensors)
    prefix = _choose_prefix(path, prefixes)
    inside = {name.removeprefix(prefix): name for name in tensors if name.startswith(prefix)}
    notes = (f"note: the names in the file begin with {prefix}, which is taken off",) if prefix else ()
    if len(prefixes) > 1:
        notes = (f"note: the file has networks called {', '.join(prefixes)}; {prefix} is taken, the average",)
    unwrapped = Unwrapped(
        naming_scheme, {name: tensors[stored] for name, stored in inside.items()}, inside if prefix else {}, (), notes
    )
    if naming_scheme.backbone is None:
        return unwrapped
    outside = {name: tensor for name, tensor in tensors.items() if not name.startswith(tuple(prefixes))}
    return _with_classifier(unwrapped, outside, architecture, head_problem)


def _choose_prefix(path: str, prefixes: list[str]) -> str:
    """Returns the prefix of the network to take: the only one, or that of the average."""
    averages = [prefix for prefix in prefixes if "ema" in prefix.lower()]
    chosen = prefixes if len(prefixes) == 1 else averages
    if len(chosen) != 1:
        raise UserError(
            f"{path}: has several networks, whose names begin with {', '.join(map(repr, prefixes))}. Save the state "
            "dict of the one that you mean."
        )
    return chosen[0]


def _with_classifier(
    unwrapped: Unwrapped, outside: StoredTensors, architecture: Architecture, head_problem: Callable[[str], str]
) -> Unwrapped:
    """Returns the network with its owner's head as classifier, or without the head where it is none.

    outside: the tensors that are not below the network's prefix; a head may be among them.
    """
    scheme, tensors, names = unwrapped.naming_scheme, unwrapped.tensors, unwrapped.names
    head = outside | {name: tensor for name, tensor in tensors.items() if not scheme.is_backbone(name)}
    body = {name: tensor for name, tensor in tensors.items() if scheme.is_backbone(name)}
    below = replace(
        unwrapped,
        tensors=body,
        names={name: names.get(name, name) for name in body},
        not_needed=tuple(names.get(name, name) for name in head),
    )
    layers = _layers(head, scheme)
    if not layers:
        return below
    dense = _dense_variables(head, layers, scheme, architecture.head_filters)
    problem = head_problem(next(iter(layers))) if dense is not None else ""
    if dense is not None and not problem:
        return _with_dense(below, head, dense, architecture)
    shown = [f"{one} {_shapes(head, parts)}" for one, parts in itertools.islice(layers.items(), _MAX_NAMES)]
    note = (
        f"note: the head of the file is not one Dense layer over the {architecture.head_filters} pooled features, "
        f"but {', '.join(shown)}{', ...' if len(layers) > _MAX_NAMES else ''}{f' with {problem}' if problem else ''}: "
        "only the network below it is taken"
    )
    return replace(below, notes=(*below.notes, note))


def _with_dense(
    below: Unwrapped, head: StoredTensors, dense: Mapping[str, str], architecture: Architecture
) -> Unwrapped:
    """Returns the network with a layer of its head as classifier.

    below: the network without its head. dense: kernel and perhaps bias, by our names of them, in the head.
    """
    stored_names = below.naming_scheme.stored_names(architecture)
    kernel, bias = stored_names["classifier/kernel"], stored_names["classifier/bias"]
    in_file = dict(zip(head, below.not_needed, strict=True))
    taken = {stored_names[f"classifier/{ours}"].name: head[name] for ours, name in dense.items()}
    names = {stored_names[f"classifier/{ours}"].name: in_file[name] for ours, name in dense.items()}
    _, classes = kernel.keras_shape(taken[kernel.name].shape) or (0, 0)
    taken.setdefault(bias.name, in_memory(np.zeros(classes, np.float32)))
    notes = below.notes
    if classes == 1:
        taken = {name: _with_zero_class(tensor, tensor.shape.index(1)) for name, tensor in taken.items()}
        notes += ("note: the file's one output, of a sigmoid, becomes the second of two classes, beside a logit of 0",)
    return replace(
        below,
        tensors={**below.tensors, **taken},
        names={**below.names, **names},
        not_needed=tuple(stored for name, stored in in_file.items() if name not in dense.values()),
        notes=notes,
        has_single_output=classes == 1,
    )


def _dense_variables(
    head: StoredTensors, layers: Mapping[str, list[str]], scheme: NamingScheme, features: int
) -> dict[str, str] | None:
    """Returns the names of kernel and perhaps bias of the one layer that a head is, None for any other head."""
    if len(layers) != 1:
        return None
    ((layer, names),) = layers.items()
    variables = {f"{layer}{suffix}": ours for ours, (suffix, _) in scheme.variables["dense"].items()}
    found = {variables.get(name, ""): name for name in names}
    if "kernel" not in found or "" in found:
        return None
    shape = StoredName("", scheme.variables["dense"]["kernel"][1]).keras_shape(head[found["kernel"]].shape)
    fits = shape is not None and len(shape) == 2 and shape[0] == features
    return found if fits and ("bias" not in found or head[found["bias"]].shape == shape[1:]) else None


def _layers(head: StoredTensors, scheme: NamingScheme) -> dict[str, list[str]]:
    """Returns the names of the tensors of each layer with a matrix or statistics, by the layer's name."""
    separator = scheme.variables["dense"]["bias"][0][0]
    layers: dict[str, list[str]] = {}
    for name in head:
        layers.setdefault(name.rpartition(separator)[0], []).append(name)

    def has_weights(names: list[str]) -> bool:
        axes = {name.rpartition(separator)[2]: len(head[name].shape) for name in names}
        return bool(_STATISTICS & axes.keys()) or any(axes.get(kernel, 0) > 1 for kernel in _KERNELS)

    return {layer: names for layer, names in layers.items() if has_weights(names)}


def _shapes(head: StoredTensors, names: list[str]) -> str:
    return " and ".join("x".join(map(str, head[name].shape)) or "1" for name in names[:2])


def _with_zero_class(tensor: StoredTensor, axis: int) -> StoredTensor:
    """Returns a classifier's tensor for two classes, of which the first always has the logit 0.

    tensor: float, of size 1 along the axis. The softmax of (0, z) is the sigmoid of z. Returns float32, of size 2.
    """

    def read() -> np.ndarray:
        array = np.asarray(tensor.read(), np.float32)
        return np.concatenate([np.zeros_like(array), array], axis)

    return StoredTensor((*tensor.shape[:axis], 2, *tensor.shape[axis + 1 :]), tensor.dtype, read)


def _unknown(path: str, tensors: StoredTensors) -> UserError:
    """Returns the error for a file without a network of a known kind; it names the program where that is known."""
    for marker, program in _STRANGERS.items():
        if any(name == marker or name.endswith(f".{marker}") for name in tensors):
            return UserError(f"{path}: is {program}. {_WANTED}")
    some = ", ".join(ascii(name)[1:60] for name in list(tensors)[:3]) or "none"
    return UserError(
        f"{path}: its tensors are not named as an EfficientNet's by any of "
        f"{', '.join(scheme.title for scheme in NAMING_SCHEMES)}. It has {len(tensors)} ({some}, ...)."
    )
