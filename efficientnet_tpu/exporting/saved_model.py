"""The inference model as a SavedModel: weights as constants of its graph, signatures for files, pixels and names."""

from typing import Any

import keras
import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting.classifier import Classifier, ExportedModel, Serving
from efficientnet_tpu.exporting.inference_model import frozen_function
from efficientnet_tpu.installation import program
from efficientnet_tpu.storage.literal_path import literal_path

ENTRIES = ("saved_model.pb", "fingerprint.pb", "variables", "assets")  # of the directory; assets only in some
FILES_SIGNATURE, IMAGES_SIGNATURE, LABELS_SIGNATURE = "serving_default", "images", "label_names"
# A graph is a protocol buffer, which holds 2 GB. Above this the weights stay variables.
LARGEST_GRAPH = 1_900_000_000  # bytes of weights


def write(model: keras.Model, serving: Serving, directory: str) -> None:
    """Writes the SavedModel into the directory. model: `inference_model` of serving.model."""
    size = serving.resolution
    spec = tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")
    if 4 * model.count_params() <= LARGEST_GRAPH:
        probabilities, variables = frozen_function(model, spec), []
    else:
        probabilities = tf.function(
            lambda images: model(images, training=False), input_signature=[spec], autograph=False
        )
        variables = [variable.value for variable in model.variables]

    def classify_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        # TensorFlow's convolutions fail where there is no image. A blank one stands in, and its answer is cut off.
        count = tf.shape(images)[0]
        given = tf.cond(count > 0, lambda: images, lambda: tf.zeros([1, size, size, 3], tf.uint8))
        return serving.answer(tf.nest.flatten(probabilities(given))[0][:count])

    def classify_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return classify_images(serving.prepare(image_bytes))

    def label_names() -> dict[str, tf.Tensor]:
        return {"label_names": tf.constant(serving.label_names)}

    module = tf.Module()
    module.weights = variables
    files = tf.TensorSpec([None], tf.string, name="image_bytes")
    signatures = {
        FILES_SIGNATURE: tf.function(classify_bytes, input_signature=[files]),
        IMAGES_SIGNATURE: tf.function(classify_images, input_signature=[spec]),
        LABELS_SIGNATURE: tf.function(label_names, input_signature=[]),
    }
    tf.saved_model.save(module, directory, signatures=signatures)


def load(directory: str) -> ExportedModel:
    """Loads a SavedModel that `export` wrote. Raises UserError for any other."""
    if not tf.io.gfile.exists(f"{directory}/saved_model.pb"):
        raise UserError(f"--saved_model={directory}: no SavedModel here. `{program()} export` writes one.")
    with literal_path(directory) as literal:
        loaded = tf.saved_model.load(literal)
    missing = {FILES_SIGNATURE, IMAGES_SIGNATURE, LABELS_SIGNATURE} - set(loaded.signatures)
    if missing:
        raise UserError(
            f"--saved_model={directory}: was not written by `{program()} export`: it has no signature "
            f"{', '.join(sorted(missing))}."
        )

    def call(name: str, **inputs: tf.Tensor) -> dict[str, Any]:
        # A signature does not keep its object alive. This closure does.
        return loaded.signatures[name](**inputs)

    names = tuple(name.decode() for name in call(LABELS_SIGNATURE)["label_names"].numpy())
    return ExportedModel(
        Classifier(names, lambda encoded: call(FILES_SIGNATURE, image_bytes=tf.constant(encoded))["probabilities"]),
        lambda pixels: call(IMAGES_SIGNATURE, images=tf.constant(pixels))["probabilities"].numpy(),
        metadata=None,
    )
