"""The inference model as a SavedModel: weights as constants of its graph, signatures for files, pixels and names."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from efficientnet_tpu.data.split import LABELS_TXT
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import digest
from efficientnet_tpu.exporting.classifier import Classifier, ExportedModel, Serving, with_features
from efficientnet_tpu.exporting.graph_operations import check_operations
from efficientnet_tpu.exporting.inference_model import can_be_frozen, frozen_function
from efficientnet_tpu.exporting.metadata import foreign_file
from efficientnet_tpu.installation import program
from efficientnet_tpu.storage.literal_path import literal_path
from efficientnet_tpu.storage.regular_file import require_regular
from efficientnet_tpu.texts.printable import escaped

GRAPH = "saved_model.pb"
ENTRIES = (GRAPH, "fingerprint.pb", "variables", "assets")  # of the directory; assets only in some
# What else TensorFlow, here or elsewhere, would read if it were there.
_OTHER_ENTRIES = ("assets.extra", "debug", "saved_model.cpb", "saved_model.pbtxt")
FILES_SIGNATURE, IMAGES_SIGNATURE, LABELS_SIGNATURE = "serving_default", "images", "label_names"
PREPARE_SIGNATURE, FEATURES_SIGNATURE = "prepare", "features"  # which exports of earlier versions lack
_LARGEST = {GRAPH: 1 << 31, digest.SHA256SUMS: 1 << 20}  # bytes of files that are not ours to trust
# Name of a part of the model, without content: its statement that SHA256SUMS lies beside it.
_STATES_DIGEST = "has_sha256sums"


def write(model: keras.Model, serving: Serving, directory: str) -> None:
    """Writes the SavedModel into the directory. model: `inference_model` of serving.model."""
    size = serving.resolution
    spec = tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")
    both = with_features(model)
    if can_be_frozen(model):
        compute, variables = frozen_function(both, spec), []
    else:
        compute = tf.function(lambda images: both(images, training=False), input_signature=[spec], autograph=False)
        variables = [variable.value for variable in model.variables]

    def embed_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        # TensorFlow's convolutions fail where there is no image. A blank one stands in, and its answer is cut off.
        count = tf.shape(images)[0]
        given = tf.cond(count > 0, lambda: images, lambda: tf.zeros([1, size, size, 3], tf.uint8))
        probabilities, features = tf.nest.flatten(compute(given))
        return {"probabilities": probabilities[:count], "features": features[:count]}

    def classify_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return serving.answer(embed_images(images)["probabilities"])

    def classify_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return classify_images(serving.prepare(image_bytes))

    def label_names() -> dict[str, tf.Tensor]:
        return {"label_names": tf.constant(serving.label_names)}

    module = tf.Module()
    module.weights = variables
    setattr(module, _STATES_DIGEST, tf.Module())
    files = tf.TensorSpec([None], tf.string, name="image_bytes")
    signatures = {
        FILES_SIGNATURE: tf.function(classify_bytes, [files], autograph=False),
        IMAGES_SIGNATURE: tf.function(classify_images, [spec], autograph=False),
        FEATURES_SIGNATURE: tf.function(embed_images, [spec], autograph=False),
        PREPARE_SIGNATURE: tf.function(
            lambda image_bytes: {"images": serving.prepare(image_bytes)}, [files], autograph=False
        ),
        LABELS_SIGNATURE: tf.function(label_names, input_signature=[]),
    }
    tf.saved_model.save(module, directory, signatures=signatures)


def check(directory: str, trust: bool) -> None:
    """Raises UserError for a SavedModel that is damaged, or that could do more than compute, before it is loaded.

    trust: whether any operations will do. Prints a note where there is no digest, as earlier versions wrote none.
    """
    if not tf.io.gfile.exists(f"{directory}/{GRAPH}"):
        raise UserError(f"--saved_model={directory}: no SavedModel here. `{program()} export` writes one.")
    for name in digest.files_below(directory):
        require_regular(f"{directory}/{name}", f"--saved_model={directory}: {escaped(name)}", _LARGEST.get(name))
    has_sums = tf.io.gfile.exists(f"{directory}/{digest.SHA256SUMS}")
    if has_sums:
        digest.check_sums(directory, (*ENTRIES, *_OTHER_ENTRIES, LABELS_TXT))
    with tf.io.gfile.GFile(f"{directory}/{GRAPH}", "rb") as file:
        content = file.read()
    if not has_sums and _STATES_DIGEST.encode() in content:
        raise digest.damaged(directory, f"{digest.SHA256SUMS} is missing")
    if not trust:
        check_operations(content, directory)
    if not has_sums:
        digest.note_absence(directory)


def load(directory: str) -> ExportedModel:
    """Loads a SavedModel that `export` wrote, and that `check` has not refused. Raises UserError for any other."""
    with literal_path(directory) as literal:
        loaded = tf.saved_model.load(literal)
    missing = {FILES_SIGNATURE, IMAGES_SIGNATURE, LABELS_SIGNATURE} - set(loaded.signatures)
    if missing:
        raise foreign_file(directory, f"it has no signature {', '.join(sorted(missing))}")

    def call(name: str, **inputs: tf.Tensor) -> dict[str, Any]:
        # A signature does not keep its object alive. This closure does.
        return loaded.signatures[name](**inputs)

    def prepare(encoded: Sequence[bytes]) -> tf.Tensor:
        return call(PREPARE_SIGNATURE, image_bytes=tf.constant(encoded))["images"]

    def classify(images: tf.Tensor) -> tf.Tensor:
        return call(IMAGES_SIGNATURE, images=images)["probabilities"]

    def classify_files(encoded: Sequence[bytes]) -> tf.Tensor:
        return call(FILES_SIGNATURE, image_bytes=tf.constant(encoded))["probabilities"]

    def embed(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        answer = call(FEATURES_SIGNATURE, images=images)
        return answer["probabilities"], answer["features"]

    names = _names(call(LABELS_SIGNATURE), directory)
    is_new = {PREPARE_SIGNATURE, FEATURES_SIGNATURE} <= set(loaded.signatures)
    classifier = Classifier(names, classify, prepare, embed) if is_new else Classifier(names, classify_files)
    return ExportedModel(classifier, lambda pixels: classify(tf.constant(pixels)).numpy(), metadata=None)


def _names(answer: dict[str, Any], directory: str) -> tuple[str, ...]:
    """Returns the names of classes that a SavedModel, perhaps a stranger's, answers. Raises UserError for none."""
    stored = answer.get(LABELS_SIGNATURE)
    if stored is None or stored.dtype != tf.string or len(stored.shape) != 1 or not len(stored):
        raise foreign_file(directory, f"its signature {LABELS_SIGNATURE} gives no list of names")
    try:
        return tuple(name.decode() for name in stored.numpy())
    except UnicodeDecodeError as error:
        raise foreign_file(directory, f"the class {error.object!r:.100}: its name is not UTF-8") from error
