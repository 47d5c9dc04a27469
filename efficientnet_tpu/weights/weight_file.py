"""Opens other programs' weights: finds the kind of file from its content, and returns the tensors in it."""

import contextlib
import functools
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.storage.literal_path import literal_path
from efficientnet_tpu.storage.regular_file import require_regular
from efficientnet_tpu.storage.temporary_directory import temporary_directory
from efficientnet_tpu.storage.text_file import read_text
from efficientnet_tpu.texts.json_text import read_json
from efficientnet_tpu.weights import keras_applications, timm_models
from efficientnet_tpu.weights.naming_schemes import (
    KERAS_APPLICATIONS,
    REFERENCE_CHECKPOINT,
    TIMM,
    NamingScheme,
)
from efficientnet_tpu.weights.readers.hdf5_reader import KERAS_WEIGHTS, model_description, read_hdf5, unpacked_keras
from efficientnet_tpu.weights.readers.keras_graph import KerasGraph, read_graph
from efficientnet_tpu.weights.readers.pth_reader import LEGACY_START, read_legacy, read_zip
from efficientnet_tpu.weights.readers.safetensors_reader import read_safetensors
from efficientnet_tpu.weights.readers.stored_tensor import READ_ERRORS, StoredTensors
from efficientnet_tpu.weights.readers.tf1_reader import checkpoint_prefix, read_checkpoint
from efficientnet_tpu.weights.weight_place import IMAGENET, KINDS, SAFETENSORS, require_weight_place
from efficientnet_tpu.weights.wrappings import unwrap

# AdvProp's weights of EfficientNet-PyTorch, adv-efficientnet-b0-....pth, and of the reference, below advprop/. Those of
# timm are told by `timm_models`.
_ADVPROP = re.compile(
    r"(^|[._-])(adv|advprop|ap)[._-]efficientnet|efficientnet.*[._-](ap|adv|advprop)([._-]|$)|^advprop$"
)
_MAX_CONFIG_BYTES = 1 << 20
_MAX_BYTES = 8 << 30  # L2, the largest model, has 2 GB of weights in float32


@dataclass(frozen=True)
class WeightFile:
    """An open weight file. Its tensors can be read while the context of `open_weight_file` lasts.

    path: as the user gave it.
    local_path: the local file, for other programs to read too; empty if there is none.
    naming_scheme: of the program that named the tensors.
    tensors: by the names of `naming_scheme`.
    in_file: from these names to the file's own, where they differ.
    not_needed: other names in the file.
    has_single_output: whether its classifier has one output, for two classes.
    graph: the description of the model, where Keras stored one.
    source_model: which of timm's models it is, None for other programs.
    options: the flags of the preprocessing that the file states.
    label_names: of the classes, where the file states them.
    notes: lines that the user must see.
    """

    path: str
    local_path: str
    naming_scheme: NamingScheme
    tensors: StoredTensors
    in_file: Mapping[str, str] = field(default_factory=dict)
    not_needed: tuple[str, ...] = ()
    has_single_output: bool = False
    graph: KerasGraph | None = None
    source_model: timm_models.TimmModel | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    label_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def open_weight_file(
    path: str, architecture: Architecture, tf1_weights: str = "auto", source_model: str = ""
) -> Iterator[WeightFile]:
    """Opens the weights at `path`, which may be remote.

    architecture: selects the model that `imagenet` downloads, gives the order of layers without names and the number
    of features of a classifier. tf1_weights, source_model: the flags. Raises UserError for weights of no known kind,
    for damaged ones, and for those of a network that computes something else.
    """
    with contextlib.ExitStack() as stack:
        try:
            require_weight_place(path, path)
            if path == IMAGENET:
                weight_file = WeightFile(path, "", KERAS_APPLICATIONS, keras_applications.download(architecture))
            elif tf.io.gfile.isdir(path) and tf.io.gfile.exists(os.path.join(path, SAFETENSORS)):
                weight_file = _open_file(path, os.path.join(path, SAFETENSORS), architecture, stack)
            elif prefix := checkpoint_prefix(path):
                prefix = stack.enter_context(literal_path(prefix))
                tensors, not_needed = read_checkpoint(path, prefix, tf1_weights)
                weight_file = WeightFile(path, "", REFERENCE_CHECKPOINT, tensors, not_needed=not_needed)
            elif tf.io.gfile.isdir(path):
                raise UserError(f"{path}: there are no weights in this directory. Wanted is {KINDS}.")
            else:
                weight_file = _open_file(path, path, architecture, stack)
            weight_file = _with_same_function(weight_file, architecture, source_model)
        except (*READ_ERRORS, tf.errors.OpError) as error:
            if isinstance(error, UserError):
                raise
            first_line = str(error).strip().partition("\n")[0]
            reason = (first_line or type(error).__name__).removesuffix(".")[:300]
            raise UserError(f"{path}: cannot be read: {reason}. It is damaged or of another kind.") from error
        yield weight_file


def _open_file(path: str, file: str, architecture: Architecture, stack: contextlib.ExitStack) -> WeightFile:
    """Opens a single file, which may be in the directory `path`, by its first bytes, whatever its name."""
    local_path = _make_local(file, stack)
    with open(local_path, "rb") as opened:
        start = opened.read(16)
    graph = None
    if start.startswith(b"PK"):
        with zipfile.ZipFile(local_path) as archive:
            is_keras = KERAS_WEIGHTS in archive.namelist()
        if is_keras:
            graph = _read_graph(local_path)
            tensors = read_hdf5(stack.enter_context(unpacked_keras(local_path)), architecture)
        else:
            tensors = read_zip(local_path)
    elif start.startswith(b"\x89HDF"):
        graph = _read_graph(local_path)
        tensors = read_hdf5(local_path, architecture)
    elif start.startswith(LEGACY_START):
        tensors = read_legacy(local_path)
    elif start[8:9] == b"{":
        tensors = read_safetensors(local_path)
    else:
        raise UserError(f"{path}: is of no known kind. Wanted is {KINDS}.")
    problem = functools.partial(keras_applications.head_problem, graph) if graph else lambda layer: ""
    network = unwrap(path, tensors, architecture, problem)
    return WeightFile(
        path,
        local_path,
        network.naming_scheme,
        network.tensors,
        in_file=network.names,
        not_needed=network.not_needed,
        has_single_output=network.has_single_output,
        graph=graph,
        notes=network.notes,
    )


def _read_graph(local_path: str) -> KerasGraph | None:
    """Returns the graph of the model that a Keras file describes, None in one of weights alone."""
    description = model_description(local_path)
    return read_graph(description) if description else None


def _with_same_function(weight_file: WeightFile, architecture: Architecture, source_model: str) -> WeightFile:
    """Returns the weight file with the preprocessing that belongs to it, by what it states or is named.

    Raises UserError if the source computes another function with the same names and shapes of tensors.
    """
    path, naming_scheme = weight_file.path, weight_file.naming_scheme
    if naming_scheme is TIMM:
        found = identify_timm(path, source_model, architecture.name)
        options = timm_models.read_options(path, found)
        return replace(weight_file, source_model=found, options=options, label_names=found.label_names)
    if source_model:
        raise UserError(
            f"--source_model={source_model}: says which of timm's models a file is; {path} is one of "
            f"{naming_scheme.title}. Leave the flag out."
        )
    if naming_scheme is KERAS_APPLICATIONS:
        options = keras_applications.stated_options(path, weight_file.graph, weight_file.tensors, architecture)
        return replace(weight_file, options=options)
    if naming_scheme is REFERENCE_CHECKPOINT and any(
        "routing" in name or "condconv" in name for name in weight_file.tensors
    ):
        raise UserError(f"{path}: is a CondConv network, which mixes experts in a convolution; not supported.")
    if not is_named_advprop(path):
        return weight_file
    note = "note: AdvProp's weights, by their name: they want x / 127.5 - 1 (--normalization=advprop)"
    return replace(weight_file, options={"normalization": "advprop"}, notes=(*weight_file.notes, note))


def identify_timm(path: str, source_model: str, expected: str) -> timm_models.TimmModel:
    """Returns the model of timm's that the file or directory at `path` is, as `timm_models.identify` does."""
    config = next(filter(None, map(_timm_config, timm_models.links(path))), None)
    return timm_models.identify(path, config, source_model, expected)


def _timm_config(path: str) -> dict[str, Any] | None:
    """Returns the content of timm's config.json in or beside `path`, None without such a file."""
    config_path = os.path.join(path if tf.io.gfile.isdir(path) else os.path.dirname(path), timm_models.CONFIG_JSON)
    if not tf.io.gfile.exists(config_path) or tf.io.gfile.isdir(config_path):
        return None
    if tf.io.gfile.stat(config_path).length > _MAX_CONFIG_BYTES:
        raise ValueError(f"{timm_models.CONFIG_JSON} is larger than 1 MB")
    try:
        config = read_json(read_text(config_path, config_path))
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{config_path}: would say which of timm's models it is, but {error}") from error
    # Other programs keep files of this name too; timm's names the architecture.
    is_timms = isinstance(config, dict) and isinstance(config.get("architecture"), str)
    return config if is_timms else None


def is_named_advprop(path: str) -> bool:
    """Returns whether a path is named as AdvProp's weights are published."""
    return any(_ADVPROP.search(part) for part in path.lower().split("/"))


def stated_normalization(path: str, architecture: Architecture, tf1_weights: str, source_model: str) -> str:
    """Returns the --normalization that other programs' weights state, or "model"."""
    with open_weight_file(path, architecture, tf1_weights, source_model) as weight_file:
        return weight_file.options.get("normalization", "model")


def _make_local(path: str, stack: contextlib.ExitStack) -> str:
    """Returns the path itself, or for a remote file the path of a copy that lasts as long as the context."""
    require_regular(path, path)
    if tf.io.gfile.stat(path).length > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES:,} bytes")
    if "://" not in path:
        return path
    directory = stack.enter_context(temporary_directory())
    copy = os.path.join(directory, os.path.basename(path))
    tf.io.gfile.copy(path, copy)
    return copy
