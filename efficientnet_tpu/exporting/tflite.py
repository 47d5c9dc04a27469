"""The inference model for LiteRT (TensorFlow Lite): float32, or 8-bit integers; one image, or as many as it is resized
to.
"""

import os
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.exporting.inference_model import frozen_function
from efficientnet_tpu.exporting.metadata import Card, card_of, foreign, texts_in, with_texts
from efficientnet_tpu.exporting.runtime import PixelModel
from efficientnet_tpu.exporting.tflite_metadata import with_metadata


def file_content(model: keras.Model, card: Card) -> bytes:
    """uint8 [1, size, size, 3] -> float32 [1, num_classes]."""
    return _complete(_converter(model, card, tf.uint8).convert(), card)


def int8_file_content(model: keras.Model, card: Card, representative: np.ndarray) -> bytes:
    """uint8 [1, size, size, 3] -> uint8 [1, num_classes], probabilities in steps of 1/256; integers all through.

    representative: uint8 [count, size, size, 3], images from which the ranges of the activations are taken.
    """
    # Pixels are 8-bit integers already: the quantised input takes them as they are.
    converter = _converter(model, card, tf.float32)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[np.newaxis].astype(np.float32)] for image in representative)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Statistics for quantized inputs")  # they are measured on the images
        return _complete(converter.convert(), card)


def load(content: bytes, path: str) -> PixelModel:
    """By ai-edge-litert where it is installed, else by the interpreter inside TensorFlow."""
    card = card_of(texts_in(content, path), path)
    try:
        interpreter = _interpreter(content)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise foreign(path, f"LiteRT cannot load it: {error}") from error
    [given], [wanted] = interpreter.get_input_details(), interpreter.get_output_details()
    expected = [1, card.resolution, card.resolution, 3]
    if list(given["shape"]) != expected or given["dtype"] != np.uint8 or wanted["shape"][-1] != len(card.label_names):
        raise foreign(path, "it takes or gives other tensors")
    scale, zero = wanted["quantization"] if wanted["dtype"] != np.float32 else (1.0, 0)

    def probabilities_of(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given["index"], image[np.newaxis])
        interpreter.invoke()
        return (np.float32(interpreter.get_tensor(wanted["index"])[0]) - zero) * np.float32(scale)

    return PixelModel(card, lambda images: np.stack([probabilities_of(image) for image in images]))


def _complete(content: bytes, card: Card) -> bytes:
    """With metadata, and behind them the files that they name."""
    return with_texts(with_metadata(content, card), card.as_texts())


def _converter(model: keras.Model, card: Card, kind: tf.DType) -> Any:
    spec = tf.TensorSpec([1, card.resolution, card.resolution, 3], kind, name="images")
    # From variables the converter would make such as need setting at run time.
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen_function(model, spec)], tf.Module())


def _interpreter(content: bytes) -> Any:
    threads = os.cpu_count()
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        with warnings.catch_warnings():  # that TensorFlow will lose it one day
            warnings.simplefilter("ignore")
            return tf.lite.Interpreter(model_content=content, num_threads=threads)
    return Interpreter(model_content=content, num_threads=threads)
