"""The inference model as a SavedModel: weights as constants of its graph, signatures for files, pixels and names."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from efficientnet_tpu.exporting.classifier import IMAGES_SIGNATURE, LABELS_SIGNATURE, Serving
from efficientnet_tpu.exporting.inference_model import frozen_function

# A graph is a protocol buffer, which holds 2 GB; beyond, weights stay variables.
LARGEST_GRAPH = 1_900_000_000  # bytes of weights


def write(model: keras.Model, serving: Serving, directory: str) -> None:
    """model: `inference_model` of serving.model."""
    size = serving.resolution
    probabilities, variables = _function(model, size)

    def classify_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return serving.answer(tf.nest.flatten(probabilities(images))[0])

    def classify_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return classify_images(serving.prepare(image_bytes))

    module = tf.Module()
    module.weights = variables
    pixels = tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")
    files = tf.TensorSpec([None], tf.string, name="image_bytes")
    signatures = {
        "serving_default": tf.function(classify_bytes, input_signature=[files]),
        IMAGES_SIGNATURE: tf.function(classify_images, input_signature=[pixels]),
        LABELS_SIGNATURE: tf.function(serving.all_label_names, input_signature=[]),
    }
    tf.saved_model.save(module, directory, signatures=signatures)


def _function(model: keras.Model, size: int) -> tuple[Callable[[tf.Tensor], Any], list[tf.Variable]]:
    """uint8 [batch, size, size, 3] -> probabilities, and the variables it reads: none where they could be constants."""
    spec = tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")
    if 4 * model.count_params() <= LARGEST_GRAPH:
        return frozen_function(model, spec), []
    function = tf.function(lambda images: model(images, training=False), input_signature=[spec], autograph=False)
    return function, [variable.value for variable in model.variables]
