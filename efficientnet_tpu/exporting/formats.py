"""The table of export formats: how each is written, and how it is read again in its own runtime.

A new format is a module that writes and loads it, a row here, and its name in EXPORT_FORMATS of `config`.
"""

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import keras_file, onnx_file, saved_model, tflite
from efficientnet_tpu.exporting.classifier import Classifier, ExportedModel, Serving
from efficientnet_tpu.exporting.metadata import ExportMetadata
from efficientnet_tpu.installation import install_command
from efficientnet_tpu.storage.regular_file import require_regular

# Of tensors and protocol buffers in one file, in bytes.
_LARGEST_BUFFER = 2_000_000_000


@dataclass(frozen=True)
class Format:
    """A form of export.

    write: takes the inference model, the run, representative images uint8 [count, size, size, 3], and a directory.
    load: takes the path of the file, or the directory if the format is not a single file.
    entries: names of what `write` makes in the directory, the one that identifies the format first.
    extra: of the package, with the libraries that writing and loading need, by their names to import.
    """

    write: Callable[[keras.Model, Serving, np.ndarray, str], None]
    load: Callable[[str], ExportedModel]
    entries: tuple[str, ...]
    is_file: bool = False
    write_modules: tuple[str, ...] = ()
    load_modules: tuple[str, ...] = ()
    extra: str = ""
    quantized: bool = False
    largest_weights: int | None = None  # bytes in float32


def _file_format(
    name: str,
    content: Callable[[keras.Model, ExportMetadata, np.ndarray], bytes],
    load: Callable[[bytes, str], ExportedModel],
    **facts: Any,
) -> Format:
    """Makes a row for a single file. content: returns the file's bytes. load: takes them, and the path for messages."""

    def write(model: keras.Model, serving: Serving, representative: np.ndarray, directory: str) -> None:
        with tf.io.gfile.GFile(f"{directory}/{name}", "wb") as file:
            file.write(content(model, serving.metadata, representative))

    def load_path(path: str) -> ExportedModel:
        require_regular(path, f"--saved_model={path}")
        with tf.io.gfile.GFile(path, "rb") as file:
            return load(file.read(), path)

    return Format(write, load_path, (name,), is_file=True, **facts)


FORMATS = {
    "savedmodel": Format(
        lambda model, serving, _, directory: saved_model.write(model, serving, directory),
        saved_model.load,
        saved_model.ENTRIES,
    ),
    "keras": _file_format(
        "model.keras", lambda model, metadata, _: keras_file.file_content(model, metadata), keras_file.load
    ),
    "tflite": _file_format(
        "model.tflite",
        lambda model, metadata, _: tflite.file_content(model, metadata),
        tflite.load,
        largest_weights=_LARGEST_BUFFER,
    ),
    "tflite-int8": _file_format(
        "model-int8.tflite",
        tflite.int8_file_content,
        tflite.load,
        quantized=True,
        largest_weights=_LARGEST_BUFFER,
    ),
    "onnx": _file_format(
        "model.onnx",
        lambda model, metadata, _: onnx_file.file_content(model, metadata),
        onnx_file.load,
        write_modules=("onnx",),
        load_modules=("onnxruntime",),
        extra="onnx",
        largest_weights=_LARGEST_BUFFER,
    ),
}


def check_formats(names: Sequence[str]) -> None:
    """Raises UserError for a format whose libraries are not installed."""
    for name in names:
        form = FORMATS[name]
        _require_modules((*form.write_modules, *form.load_modules), form.extra, f"--export_format={name}")


def write(name: str, model: keras.Model, serving: Serving, representative: np.ndarray, directory: str) -> None:
    """Writes the format into the directory. Raises UserError for a model that is too large.

    model: `inference_model` of serving.model. representative: uint8 [count, size, size, 3], for quantization.
    """
    form = FORMATS[name]
    if form.largest_weights and 4 * model.count_params() > form.largest_weights:
        raise UserError(f"--export_format={name}: holds 2 GB at most, {model.name} has more. Take savedmodel or keras.")
    form.write(model, serving, representative, directory)


def written_paths(name: str, directory: str) -> list[str]:
    """Returns the paths of what `write` made in the directory."""
    paths = [f"{directory}/{entry}" for entry in FORMATS[name].entries]
    return [path for path in paths if tf.io.gfile.exists(path)]


def load_written(name: str, directory: str) -> ExportedModel:
    """Loads what `write` made in the directory, in its own runtime."""
    form = FORMATS[name]
    return form.load(f"{directory}/{form.entries[0]}" if form.is_file else directory)


def load_exported(path: str) -> Classifier:
    """Loads what `export` wrote: a file, recognized by its suffix, or a directory, by what is in it."""
    in_directory = tf.io.gfile.isdir(path)

    def is_of(form: Format) -> bool:
        if form.is_file:
            return not in_directory and path.endswith(os.path.splitext(form.entries[0])[1])
        return in_directory and tf.io.gfile.exists(f"{path}/{form.entries[0]}")

    form = next(filter(is_of, FORMATS.values()), FORMATS["savedmodel"])  # which refuses what it is not
    if form.is_file and not tf.io.gfile.exists(path):
        raise UserError(f"--saved_model={path}: there is no such file.")
    _require_modules(form.load_modules, form.extra, f"--saved_model={path}")
    return form.load(path).classifier


def _require_modules(modules: Sequence[str], extra: str, flag: str) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(
            f"{flag}: needs {' and '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed: "
            f"{install_command(extra)}"
        )
