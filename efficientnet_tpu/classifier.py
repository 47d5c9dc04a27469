"""A trained model as its users see it: bytes of image files in, probabilities of named classes out.

`export` writes it, `predict` runs it, from a run's model_dir or from an exported SavedModel alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from efficientnet_tpu import checkpoint, distribution, run_record
from efficientnet_tpu.config import Config, UserError
from efficientnet_tpu.data.preprocessing import crop_padding, eval_images
from efficientnet_tpu.models.compound_scaling import architecture_of
from efficientnet_tpu.models.efficientnet import build_model

NUM_TOP_CLASSES = 5
LABELS_SIGNATURE = "label_names"


@dataclass(frozen=True)
class Classifier:
    """probabilities: string [batch], contents of image files -> float32 [batch, num_classes]."""

    label_names: tuple[str, ...]
    probabilities: Callable[[Sequence[bytes]], tf.Tensor]


@dataclass(frozen=True)
class Serving:
    """A run's averaged model in float32 with its preprocessing: what becomes the SavedModel's signatures."""

    model: keras.Model
    label_names: tuple[str, ...]
    resolution: int
    eval_crop_padding: int
    step: int

    def classify_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """string [batch], JPEG, PNG, GIF or BMP files of any size -> see `classify_images`."""
        return self.classify_images(eval_images(image_bytes, self.resolution, self.eval_crop_padding))

    def classify_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """uint8 [batch, height, width, 3], RGB, cropped and resized already.

        -> probabilities float32 [batch, num_classes], and the five most probable classes in descending order:
        class_ids int32 [batch, 5], class_names string [batch, 5].
        """
        probabilities = tf.nn.softmax(self.model(images, training=False))
        _, class_ids = tf.math.top_k(probabilities, k=min(NUM_TOP_CLASSES, len(self.label_names)))
        class_names = tf.gather(tf.constant(self.label_names), class_ids)
        return {"class_ids": class_ids, "class_names": class_names, "probabilities": probabilities}

    def all_label_names(self) -> dict[str, tf.Tensor]:
        """string [num_classes], in the order of the probabilities."""
        return {"label_names": tf.constant(self.label_names)}


def load_serving(config: Config) -> Serving:
    """From the run in model_dir; `config` is the run's own. float32 whatever it was trained in."""
    record = run_record.load(config.run.model_dir)
    run_record.require_same_weights(record.config, config)
    architecture = architecture_of(config.model, len(record.label_names))
    with distribution.precision("float32"):
        model = build_model(architecture)
    step = checkpoint.restore_average(model, config.run.model_dir, config.eval.checkpoint)
    padding = crop_padding(config.data.eval_crop_padding, architecture.resolution)
    return Serving(model, record.label_names, architecture.resolution, padding, step)


def load_run(config: Config) -> Classifier:
    """The classifier of the run in model_dir."""
    serving = load_serving(config)
    classify = tf.function(serving.classify_bytes, input_signature=[tf.TensorSpec([None], tf.string)])
    return Classifier(serving.label_names, lambda images: classify(tf.constant(images))["probabilities"])


def load_saved_model(directory: str) -> Classifier:
    """The classifier that `export` wrote."""
    if not tf.io.gfile.exists(f"{directory}/saved_model.pb"):
        raise UserError(f"--saved_model={directory}: no SavedModel here. `main.py export` writes one.")
    loaded = tf.saved_model.load(directory)
    try:
        classify = loaded.signatures["serving_default"]
        names = loaded.signatures[LABELS_SIGNATURE]()["label_names"].numpy()
    except KeyError as error:
        raise UserError(
            f"--saved_model={directory}: was not written by `main.py export`: it has no signature {error}."
        ) from error

    def probabilities(images: Sequence[bytes]) -> tf.Tensor:
        # Signatures do not keep the object they belong to alive; this closure does.
        assert loaded
        return classify(image_bytes=tf.constant(images))["probabilities"]

    return Classifier(tuple(name.decode() for name in names), probabilities)
