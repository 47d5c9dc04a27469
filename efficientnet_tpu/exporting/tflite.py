"""The inference model for LiteRT (TensorFlow Lite), in float32 or in 8-bit integers.

It takes one image, or as many as its input is resized to.
"""

import os
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.exporting.classifier import ExportedModel, prepared_by_tensorflow
from efficientnet_tpu.exporting.inference_model import frozen_function
from efficientnet_tpu.exporting.metadata import (
    ExportMetadata,
    forbidden,
    foreign_file,
    read_metadata,
    texts_in,
    with_texts,
)
from efficientnet_tpu.exporting.tflite_metadata import with_metadata
from efficientnet_tpu.hardware.stderr import redirected_stderr
from efficientnet_tpu.storage.temporary_directory import temporary_directory


def file_content(model: keras.Model, metadata: ExportMetadata) -> bytes:
    """Returns the bytes of a float32 model: uint8 [1, size, size, 3] -> float32 [1, num_classes]."""
    content = with_metadata(_convert(_converter(model, metadata, tf.uint8)), metadata)
    return with_texts(content, metadata.as_texts())  # last: the metadata name these files, which must be at the end


def int8_file_content(model: keras.Model, metadata: ExportMetadata, representative: np.ndarray) -> bytes:
    """Returns the bytes of a model of 8-bit integers: uint8 [1, size, size, 3] -> uint8 [1, num_classes].

    Probabilities are in steps of 1/256. representative: uint8 [count, size, size, 3], images from which the ranges of
    the activations are measured.
    """
    # Pixels are 8-bit integers already: the quantized input takes them as they are.
    converter = _converter(model, metadata, tf.float32)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[np.newaxis].astype(np.float32)] for image in representative)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    # The converter writes a line of its settings to stderr, past Python.
    with warnings.catch_warnings(), open(os.devnull, "wb") as nowhere, redirected_stderr(nowhere):
        warnings.filterwarnings("ignore", "Statistics for quantized inputs")  # they are measured on the images
        content = _convert(converter)
    return with_texts(with_metadata(content, metadata), metadata.as_texts())


def load(content: bytes, path: str, trust: bool = False) -> ExportedModel:
    """Loads a .tflite file by ai-edge-litert, or by TensorFlow's interpreter if that is not installed.

    path: for messages. trust: whether it may have other operations than TensorFlow Lite's own. Raises UserError for a
    file of other origin.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    metadata = read_metadata(texts_in(content, path), path)
    model = schema.Model.GetRootAsModel(content, 0)
    for index in range(0 if trust else model.OperatorCodesLength()):
        # TensorFlow's interpreter knows all of TensorFlow's operations by such names, those for files too.
        if custom := model.OperatorCodes(index).CustomCode():
            raise forbidden(path, f"it has the operation {custom!r:.100}, which is not TensorFlow Lite's own")
    loaded = _Loaded(content)
    [given], [wanted] = loaded.given, loaded.wanted
    shape = [1, metadata.resolution, metadata.resolution, 3]
    num_classes = wanted["shape"][-1]
    if list(given["shape"]) != shape or given["dtype"] != np.uint8 or num_classes != len(metadata.label_names):
        raise foreign_file(path, "it takes or gives other tensors")
    # One by one: a larger batch takes as long for an image, and its memory is never given back.
    return prepared_by_tensorflow(
        metadata, lambda images: loaded.run(images)[0], lambda: _Loaded(_with_features(content, path)).run, 1
    )


class _Loaded:
    """A .tflite file in an interpreter. given, wanted: the interpreter's details of its inputs and outputs."""

    def __init__(self, content: bytes) -> None:
        self._interpreter = make_interpreter(content)
        self._interpreter.allocate_tensors()
        self.given, self.wanted = self._interpreter.get_input_details(), self._interpreter.get_output_details()

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Returns all outputs of images, uint8 [batch, size, size, 3], as numbers: float32 [batch, ...] each."""
        interpreter, [given] = self._interpreter, self.given
        if len(images) != interpreter.get_input_details()[0]["shape"][0]:
            interpreter.resize_tensor_input(given["index"], images.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return [_as_numbers(interpreter.get_tensor(wanted["index"]), wanted) for wanted in self.wanted]


def _as_numbers(stored: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """Returns what 8-bit integers stand for: [batch, ...] -> float32 [batch, ...]."""
    scale, zero = details["quantization"] if stored.dtype != np.float32 else (1.0, 0)
    return (np.float32(stored) - zero) * np.float32(scale)


def _with_features(content: bytes, path: str) -> bytes:
    """Returns a .tflite file with what the last dense layer takes as its second output."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    [graph] = model.subgraphs
    dense = schema.BuiltinOperator.FULLY_CONNECTED
    kinds = [code.builtinCode for code in model.operatorCodes]
    last = next((step for step in reversed(graph.operators) if kinds[step.opcodeIndex] == dense), None)
    if last is None:
        raise foreign_file(path, "it has no dense layer, whose input the features are")
    graph.outputs = np.array([*graph.outputs, last.inputs[0]], np.int32)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _converter(model: keras.Model, metadata: ExportMetadata, kind: tf.DType) -> Any:
    # Asked for a batch of 1, the converter reshapes maps of 1 x 1 by constants that hold it, and the file cannot be
    # resized. Its input is [1, ...] all the same.
    spec = tf.TensorSpec([None, metadata.resolution, metadata.resolution, 3], kind, name="images")
    # The converter turns variables into variables of the file, which need setting at run time: constants do not.
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen_function(model, spec)], tf.Module())


def _convert(converter: Any) -> bytes:
    with temporary_directory():  # the converter puts a SavedModel there
        return converter.convert()


def make_interpreter(content: bytes) -> Any:
    """Makes an interpreter of ai-edge-litert, or TensorFlow's if that is not installed, for a .tflite file."""
    threads = os.cpu_count()
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        with warnings.catch_warnings():  # that TensorFlow will lose it one day
            warnings.simplefilter("ignore")
            return tf.lite.Interpreter(model_content=content, num_threads=threads)
    return Interpreter(model_content=content, num_threads=threads)
