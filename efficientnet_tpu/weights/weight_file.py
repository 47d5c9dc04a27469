"""Opening somebody else's weights: what kind of file it is, told from its content, and the tensors in it."""

import contextlib
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.weights import keras_applications, timm_models
from efficientnet_tpu.weights.naming_schemes import KERAS_APPLICATIONS, NAMINGS, REFERENCE_CHECKPOINT, TIMM, Naming
from efficientnet_tpu.weights.readers.hdf5_reader import KERAS_WEIGHTS, read_hdf5, unpacked_keras
from efficientnet_tpu.weights.readers.pth_reader import LEGACY_START, read_legacy, read_zip
from efficientnet_tpu.weights.readers.safetensors_reader import read_safetensors
from efficientnet_tpu.weights.readers.stored_tensor import READ_ERRORS, Tensors
from efficientnet_tpu.weights.readers.tf1_reader import checkpoint_prefix, read_checkpoint

IMAGENET = "imagenet"  # --from=imagenet: keras.applications' own download
SAFETENSORS = "model.safetensors"  # beside config.json, as timm's models are published
KINDS = (
    "a Keras file (.h5, .weights.h5, .keras), a TensorFlow 1 checkpoint, a .safetensors or .pth file, or a directory "
    f"with {SAFETENSORS} or a checkpoint in it"
)
# AdvProp's weights, trained for images from -1 to 1: tf_efficientnet_b0_ap-....pth of timm, adv-efficientnet-b0-....pth
# of EfficientNet-PyTorch; the reference keeps its checkpoints below advprop/.
_ADVPROP = re.compile(r"(^|[._/-])(ap|adv|advprop)([._-][^/]*)?$|(^|/)advprop/[^/]*$")
_MAX_BYTES = 8 << 30  # L2, the largest model, has 2 GB of weights in float32


@dataclass(frozen=True)
class Source:
    """Tensors by the names of `naming`. They can be read while the context of `open_source` lasts."""

    path: str  # as the user gave it
    file: str  # local: what was read, for other programs to read too; empty when there is no file
    naming: Naming
    tensors: Tensors
    not_needed: tuple[str, ...] = ()  # names in the file besides `tensors`
    options: dict[str, Any] | None = None  # flags of the preprocessing that the source states
    notes: tuple[str, ...] = ()  # what the user has to know


@contextlib.contextmanager
def open_source(path: str, architecture: Architecture, tf1_weights: str = "auto") -> Iterator[Source]:
    """The weights at `path`, which may be remote. Raises UserError when they are of no known kind, or damaged.

    `architecture` tells which of keras.applications' models `imagenet` means, and the order of unnamed layers.
    """
    with contextlib.ExitStack() as stack:
        try:
            if path == IMAGENET:
                source = Source(path, "", KERAS_APPLICATIONS, keras_applications.downloaded(architecture))
            elif not tf.io.gfile.exists(path) and checkpoint_prefix(path) is None:
                raise UserError(f"{path}: no such file or directory. Wanted is {KINDS}.")
            elif tf.io.gfile.isdir(path) and tf.io.gfile.exists(os.path.join(path, SAFETENSORS)):
                source = _published_timm(path, stack)
            elif prefix := checkpoint_prefix(path):
                tensors, not_needed = read_checkpoint(path, prefix, tf1_weights)
                source = Source(path, "", REFERENCE_CHECKPOINT, tensors, not_needed)
            elif tf.io.gfile.isdir(path):
                raise UserError(f"{path}: there are no weights in this directory. Wanted is {KINDS}.")
            else:
                source = _of_file(path, architecture, stack)
            source = _checked(source, architecture)
        except (*READ_ERRORS, tf.errors.OpError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path}: cannot be read: {_reason(error)}. It is damaged or of another kind.") from error
        yield source


def _reason(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__).removesuffix(".")[:300]


def _published_timm(path: str, stack: contextlib.ExitStack) -> Source:
    """A directory as the models of timm are published: config.json says which it is."""
    file = _local(os.path.join(path, SAFETENSORS), stack)
    source = Source(path, file, TIMM, read_safetensors(file))
    config = os.path.join(path, "config.json")
    if not tf.io.gfile.exists(config):
        return replace(source, notes=(timm_models.NOT_TOLD,))
    if tf.io.gfile.stat(config).length > 1 << 20:
        raise ValueError("config.json is larger than 1 MB")
    with tf.io.gfile.GFile(config) as text:
        return replace(source, options=timm_models.options_of(path, json.load(text)))


def _of_file(path: str, architecture: Architecture, stack: contextlib.ExitStack) -> Source:
    file = _local(path, stack)
    with open(file, "rb") as opened:
        start = opened.read(16)
    if start.startswith(b"PK"):
        with zipfile.ZipFile(file) as archive:
            is_keras = KERAS_WEIGHTS in archive.namelist()
        tensors = read_hdf5(stack.enter_context(unpacked_keras(file)), architecture) if is_keras else read_zip(file)
    elif start.startswith(b"\x89HDF"):
        tensors = read_hdf5(file, architecture)
    elif start.startswith(LEGACY_START):
        tensors = read_legacy(file)
    elif start[8:9] == b"{":
        tensors = read_safetensors(file)
    else:
        raise UserError(f"{path}: is of no known kind. Wanted is {KINDS}.")
    naming = next((naming for naming in NAMINGS if naming.recognises(tensors)), None)
    if naming is None:
        some = ", ".join(ascii(name)[1:60] for name in list(tensors)[:3]) or "none"
        raise UserError(
            f"{path}: its tensors are not named as an EfficientNet's by any of {', '.join(n.title for n in NAMINGS)}. "
            f"It has {len(tensors)} ({some}, ...)."
        )
    notes = (timm_models.NOT_TOLD,) if naming is TIMM else ()
    return Source(path, file, naming, tensors, notes=notes)


def _checked(source: Source, architecture: Architecture) -> Source:
    """Refuses what the tensors' names and shapes cannot show: another function computed with the same weights."""
    if source.naming is KERAS_APPLICATIONS:
        keras_applications.require_same_normalization(source.path, source.tensors, architecture)
    if source.naming is TIMM:
        timm_models.require_tensorflows(source.path)
    if source.naming is REFERENCE_CHECKPOINT and any(
        "routing" in name or "condconv" in name for name in source.tensors
    ):
        raise UserError(f"{source.path}: is a CondConv network, which mixes experts in a convolution; not supported.")
    if (source.options or {}).get("normalization") or _is_named_advprop(source.path):
        note = "note: AdvProp's weights, by config.json or name: they want x / 127.5 - 1 (--normalization=advprop)"
        options = {**(source.options or {}), "normalization": "advprop"}
        source = replace(source, options=options, notes=(*source.notes, note))
    return source


def _is_named_advprop(path: str) -> bool:
    return bool(_ADVPROP.search(path.rstrip("/").removesuffix("/model.ckpt")))


def stated_normalization(path: str, architecture: Architecture, tf1_weights: str) -> str:
    """The --normalization that weights of somebody else state."""
    with open_source(path, architecture, tf1_weights) as source:
        return (source.options or {}).get("normalization", "model")


def _local(path: str, stack: contextlib.ExitStack) -> str:
    """The path itself, or of a remote file a copy that lasts as long as the context."""
    if tf.io.gfile.stat(path).length > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES:,} bytes")
    if "://" not in path:
        return path
    directory = stack.enter_context(tempfile.TemporaryDirectory())
    copy = os.path.join(directory, os.path.basename(path))
    tf.io.gfile.copy(path, copy)
    return copy
