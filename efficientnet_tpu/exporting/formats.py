"""The table of export formats: how each is written, and how it is read again in its own runtime.

A new format is a module that writes and loads it, a row here, and its name in EXPORT_FORMATS of `config`.
"""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import digest, keras_file, onnx_file, saved_model, tflite
from efficientnet_tpu.exporting.classifier import Classifier, ExportedModel, Serving
from efficientnet_tpu.exporting.export_folder import newest_version
from efficientnet_tpu.exporting.metadata import STATES_DIGEST, ExportMetadata, foreign_file
from efficientnet_tpu.installation import install_command, program
from efficientnet_tpu.storage.regular_file import require_regular

# Of tensors and protocol buffers in one file, in bytes.
_LARGEST_BUFFER = 2_000_000_000
_LARGEST_FILE = 1 << 31


@dataclass(frozen=True)
class Format:
    """A form of export.

    write: takes the inference model, the run, representative images uint8 [count, size, size, 3], and a directory.
    load: takes the path of the file, or the directory if the format is not a single file, and whether the model may
        hold code. A file's digest is checked first.
    check: does what `load` does not before a stranger's directory is loaded; takes the same.
    entries: names of what `write` makes in the directory, the one that identifies the format first.
    extra: of the package, with the libraries that writing and loading need, by their names to import.
    """

    write: Callable[[keras.Model, Serving, np.ndarray, str], None]
    load: Callable[[str, bool], ExportedModel]
    entries: tuple[str, ...]
    check: Callable[[str, bool], None] = lambda path, trust: None
    is_file: bool = False
    write_modules: tuple[str, ...] = ()
    load_modules: tuple[str, ...] = ()
    extra: str = ""
    quantized: bool = False
    largest_weights: int | None = None  # bytes in float32


def _file_format(
    name: str,
    content: Callable[[keras.Model, ExportMetadata, np.ndarray], bytes],
    load: Callable[[bytes, str, bool], ExportedModel],
    largest_weights: int | None = None,
    **facts: Any,
) -> Format:
    """Makes a row for a single file.

    content: returns the file's bytes, with the place for the digest. load: takes them, the path for messages, and
    whether the file may hold code.
    """

    def write(model: keras.Model, serving: Serving, representative: np.ndarray, directory: str) -> None:
        with tf.io.gfile.GFile(f"{directory}/{name}", "wb") as file:
            file.write(digest.sealed(content(model, serving.metadata, representative)))

    def load_path(path: str, trust: bool) -> ExportedModel:
        require_regular(path, f"--saved_model={path}", _LARGEST_FILE if largest_weights else None)
        with tf.io.gfile.GFile(path, "rb") as file:
            given = file.read()
        is_sealed = digest.is_sealed(given)
        if not is_sealed and STATES_DIGEST in given:
            raise digest.damaged(path, "its SHA-256 is not the one at its end")
        model = load(given, path, trust)
        if not is_sealed and model.metadata.digest:  # the statement was compressed by another program
            raise digest.damaged(path, "it has lost the digest that it states")
        if not is_sealed:
            digest.note_absence(path)
        return model

    return Format(write, load_path, (name,), is_file=True, largest_weights=largest_weights, **facts)


FORMATS = {
    "savedmodel": Format(
        lambda model, serving, _, directory: saved_model.write(model, serving, directory),
        lambda directory, _: saved_model.load(directory),
        saved_model.ENTRIES,
        saved_model.check,
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
        lambda content, path, _: onnx_file.load(content, path),
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
    path = f"{directory}/{form.entries[0]}" if form.is_file else directory
    with _explained(path, "cannot be loaded"):
        return form.load(path, False)


def load_exported(path: str, trust: bool = False) -> Classifier:
    """Loads what `export` wrote: a file, recognized by its suffix, or a directory, by what is in it. Of a directory of
    versions it is the newest.

    trust: whether a model may hold code. Raises UserError for a damaged export, and for a model that does not answer
    as a classifier does, when it is loaded or when it is called.
    """
    path = newest_version(path)
    in_directory = tf.io.gfile.isdir(path)

    def is_of(form: Format) -> bool:
        if form.is_file:
            return not in_directory and path.endswith(os.path.splitext(form.entries[0])[1])
        return in_directory and tf.io.gfile.exists(f"{path}/{form.entries[0]}")

    form = next(filter(is_of, FORMATS.values()), FORMATS["savedmodel"])  # which refuses what it is not
    if form.is_file and not tf.io.gfile.exists(path):
        raise UserError(f"--saved_model={path}: there is no such file.")
    _require_modules(form.load_modules, form.extra, f"--saved_model={path}")
    with _explained(path, "cannot be loaded"):
        form.check(path, trust)
        classifier = form.load(path, trust).classifier
    names = classifier.label_names

    def classify(images: Any) -> tf.Tensor:
        with _explained(path, "fails on images"):
            found = tf.convert_to_tensor(classifier.classify(images))
        return require_probabilities(found, len(images))

    def require_probabilities(found: tf.Tensor, count: int) -> tf.Tensor:
        if found.dtype != tf.float32 or found.shape != (count, len(names)):
            what = f"{found.dtype.name} {list(found.shape)}"
            raise foreign_file(path, f"it answers {count} images of {len(names)} classes by {what}")
        return found

    def embed(images: Any) -> tuple[np.ndarray, np.ndarray]:
        with _explained(path, "fails on images"):
            found, features = map(np.asarray, classifier.embed(images))
        require_probabilities(tf.convert_to_tensor(found), len(images))
        if features.dtype != np.float32 or features.ndim != 2 or len(features) != len(images):
            raise foreign_file(
                path, f"its features of {len(images)} images are {features.dtype} {list(features.shape)}"
            )
        return found, features

    return Classifier(names, classify, classifier.prepare, embed if classifier.embed else None)


@contextlib.contextmanager
def _explained(path: str, what: str) -> Iterator[None]:
    """Makes errors of whatever kind, as runtimes raise them, one line about the export."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        line = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"--saved_model={path}: {what}: {line[:300].removesuffix('.')}. It is damaged, or `{program()} export` did "
            "not write it."
        ) from error


def _require_modules(modules: Sequence[str], extra: str, flag: str) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(
            f"{flag}: needs {' and '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed: "
            f"{install_command(extra)}"
        )
