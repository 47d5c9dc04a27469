"""The inference model as a .keras file: pixels in, probabilities out; Keras' own layers, labels in the archive."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.exporting.classifier import ExportedModel, prepared_by_tensorflow, with_features
from efficientnet_tpu.exporting.metadata import (
    ExportMetadata,
    forbidden,
    foreign_file,
    read_metadata,
    texts_in,
    with_texts,
)
from efficientnet_tpu.storage.temporary_directory import temporary_directory, users_temporary_place
from efficientnet_tpu.storage.write_errors import explained_write_errors

# Of a model that `export` writes, with what describes them.
_CLASSES = {
    *("Functional", "InputLayer", "Normalization", "Conv2D", "DepthwiseConv2D", "Activation", "MaxPooling2D"),
    *("GlobalAveragePooling2D", "Multiply", "Add", "Dense", "Softmax"),
    *("DTypePolicy", "__keras_tensor__", "VarianceScaling", "GlorotUniform", "RandomUniform", "Zeros", "Ones"),
}
_LARGEST_CONFIG = 32 << 20  # bytes; B7's has 0.6 million
_REMEDY = "Set TMPDIR to another directory"


def file_content(model: keras.Model, metadata: ExportMetadata) -> bytes:
    """Returns the bytes of a .keras file. Keras writes local files only, so the file is made in a temporary folder."""
    with temporary_directory() as folder:
        path = os.path.join(folder, "model.keras")
        with explained_write_errors(f"TMPDIR={users_temporary_place()}", _REMEDY):
            model.save(path)
        with open(path, "rb") as file:
            return with_texts(file.read(), metadata.as_texts())


def load(content: bytes, path: str, trust: bool = False) -> ExportedModel:
    """Loads a .keras file.

    path: for messages. trust: whether it may hold code and any classes. Raises UserError for a file of other origin.
    """
    metadata = read_metadata(texts_in(content, path), path)
    if not trust:
        _check_classes(content, path)
    with temporary_directory() as folder:
        local = os.path.join(folder, "model.keras")
        with explained_write_errors(f"TMPDIR={users_temporary_place()}", _REMEDY), open(local, "wb") as file:
            file.write(content)
        model = keras.models.load_model(local, compile=False, safe_mode=not trust)
    spec = tf.TensorSpec([None, metadata.resolution, metadata.resolution, 3], tf.uint8)

    def compiled(model: keras.Model) -> Callable[[np.ndarray], Any]:
        call = tf.function(lambda images: model(images, training=False), input_signature=[spec], autograph=False)
        return lambda images: tf.nest.map_structure(np.asarray, call(tf.constant(images)))

    return prepared_by_tensorflow(metadata, compiled(model), lambda: compiled(with_features(model)))


def _check_classes(content: bytes, path: str) -> None:
    """Raises UserError for a file whose model has other classes than those of the models that `export` writes.

    Keras' own protection (safe_mode) leaves out code in the file, but not what its classes may do with their options.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = archive.getinfo("config.json")
        if entry.file_size > _LARGEST_CONFIG:
            raise foreign_file(path, "its config.json is too large")
        nodes = [json.loads(archive.read(entry))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict) and "class_name" in node:
            name, module = node["class_name"], str(node.get("module") or "keras")
            if name not in _CLASSES or module.partition(".")[0] != "keras":
                raise forbidden(path, f"it has the class {f'{module}.{name}'!r:.100}, which no export has")
        if isinstance(node, dict | list):
            nodes += node.values() if isinstance(node, dict) else node
