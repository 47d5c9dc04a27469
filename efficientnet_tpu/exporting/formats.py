"""The forms in which a model is exported: how each is written, and how what was written is read in its own runtime."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import keras_file, onnx_file, saved_model, tflite
from efficientnet_tpu.exporting.classifier import (
    IMAGES_SIGNATURE,
    LABELS_SIGNATURE,
    Classifier,
    Serving,
    load_signatures,
)
from efficientnet_tpu.exporting.classifier import load_saved_model as load_saved_model_classifier
from efficientnet_tpu.exporting.metadata import Card
from efficientnet_tpu.exporting.runtime import PixelModel

# Tensors and protocol buffers in a file of one piece.
_LARGEST_FILE = 2_000_000_000


@dataclass(frozen=True)
class Format:
    """content: (inference model, card, representative images uint8) -> the file. modules: by names, what it needs."""

    file: str
    content: Callable[[keras.Model, Card, np.ndarray], bytes]
    load: Callable[[bytes, str], PixelModel]
    modules: tuple[str, ...] = ()
    extra: str = ""
    quantised: bool = False
    limited: bool = True  # to _LARGEST_FILE


FILES = {
    "keras": Format(
        "model.keras", lambda model, card, _: keras_file.file_content(model, card), keras_file.load, limited=False
    ),
    "tflite": Format("model.tflite", lambda model, card, _: tflite.file_content(model, card), tflite.load),
    "tflite-int8": Format("model-int8.tflite", tflite.int8_file_content, tflite.load, quantised=True),
    "onnx": Format(
        "model.onnx",
        lambda model, card, _: onnx_file.file_content(model, card),
        onnx_file.load,
        ("onnx", "onnxruntime"),
        "onnx",
    ),
}
_LOADERS = {".keras": FILES["keras"], ".tflite": FILES["tflite"], ".onnx": FILES["onnx"]}


def check_formats(names: list[str]) -> None:
    """Raises UserError for a format whose libraries are not installed."""
    for name in names:
        if name in FILES:
            _require_modules(FILES[name].modules, FILES[name].extra, f"--export_format={name}")


def write(name: str, model: keras.Model, serving: Serving, representative: np.ndarray, directory: str) -> None:
    """Into the directory. model: `inference_model` of serving.model. Raises UserError for a model that is too large."""
    if name == "savedmodel":
        saved_model.write(model, serving, directory)
        return
    form = FILES[name]
    if form.limited and 4 * model.count_params() > _LARGEST_FILE:
        raise UserError(f"--export_format={name}: holds 2 GB at most, {model.name} has more. Take savedmodel or keras.")
    with tf.io.gfile.GFile(f"{directory}/{form.file}", "wb") as file:
        file.write(form.content(model, card_of_serving(serving), representative))


def card_of_serving(serving: Serving) -> Card:
    """What files say of the model in them."""
    return Card(serving.model.name, serving.step, serving.label_names, serving.resolution, serving.eval_crop_padding)


def paths_of(name: str, directory: str) -> list[str]:
    """What `write` makes there."""
    if name == "savedmodel":
        return [f"{directory}/{part}" for part in ("saved_model.pb", "fingerprint.pb", "variables", "assets")]
    return [f"{directory}/{FILES[name].file}"]


def load_pixel_model(name: str, directory: str, serving: Serving) -> PixelModel:
    """What `write` made there, in its own runtime."""
    if name != "savedmodel":
        return _load_file(FILES[name], f"{directory}/{FILES[name].file}")
    signatures = load_signatures(directory)
    labels = tuple(label.decode() for label in signatures[LABELS_SIGNATURE]()["label_names"].numpy())
    card = Card(serving.model.name, serving.step, labels, serving.resolution, serving.eval_crop_padding)
    images = signatures[IMAGES_SIGNATURE]
    return PixelModel(card, lambda pixels: images(images=tf.constant(pixels))["probabilities"].numpy())


def load_exported(path: str) -> Classifier:
    """The classifier in what `export` wrote: a SavedModel's directory, or a file."""
    suffix = next((suffix for suffix in _LOADERS if path.endswith(suffix)), None)
    if suffix is None or tf.io.gfile.isdir(path):
        return load_saved_model_classifier(path)
    if not tf.io.gfile.exists(path):
        raise UserError(f"--saved_model={path}: there is no such file.")
    form = _LOADERS[suffix]
    _require_modules([module for module in form.modules if module != "onnx"], form.extra, f"--saved_model={path}")
    return _load_file(form, path).as_classifier()


def _load_file(form: Format, path: str) -> PixelModel:
    with tf.io.gfile.GFile(path, "rb") as file:
        return form.load(file.read(), path)


def _require_modules(modules: tuple[str, ...] | list[str], extra: str, flag: str) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(
            f"{flag}: needs {' and '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed: "
            f"pip install 'efficientnet-tpu[{extra}]', or, in a clone, pip install -e '.[{extra}]'."
        )
