"""A trained model as its users see it: bytes of image files in, probabilities of named classes out.

`export` writes it, `predict` runs it, from a run's model_dir or from what was exported (see exporting/) alike.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.preprocessing import crop_padding, eval_images
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.models.build import build_model
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.run import checkpoint, run_record

NUM_TOP_CLASSES = 5
# Of a SavedModel, beside serving_default.
IMAGES_SIGNATURE, LABELS_SIGNATURE = "images", "label_names"


@dataclass(frozen=True)
class Classifier:
    """probabilities: string [batch], contents of image files -> float32 [batch, num_classes]."""

    label_names: tuple[str, ...]
    probabilities: Callable[[Sequence[bytes]], tf.Tensor]


@dataclass(frozen=True)
class Serving:
    """A run's averaged model in float32 with its preprocessing: what exports are made of, and compared with."""

    model: keras.Model
    label_names: tuple[str, ...]
    resolution: int
    eval_crop_padding: int
    step: int

    def prepare(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """string [batch], image files of any size -> uint8 [batch, resolution, resolution, 3], RGB."""
        return eval_images(image_bytes, self.resolution, self.eval_crop_padding)

    def probabilities(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 [batch, height, width, 3], prepared -> float32 [batch, num_classes]."""
        return tf.nn.softmax(self.model(images, training=False))

    def answer(self, probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        """What signatures return of float32 [batch, num_classes]: that, and the most probable classes in descending
        order: class_ids int32 [batch, 5], class_names string [batch, 5].
        """
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
    architecture = configured_architecture(config.model, len(record.label_names))
    with distribution.precision("float32"):
        model = build_model(architecture)
    step = checkpoint.restore_average(model, config.run.model_dir, config.eval.checkpoint)
    padding = crop_padding(config.data.eval_crop_padding, architecture.resolution)
    return Serving(model, record.label_names, architecture.resolution, padding, step)


def load_run(config: Config) -> Classifier:
    """The classifier of the run in model_dir."""
    return make_classifier(load_serving(config))


def make_classifier(serving: Serving) -> Classifier:
    """The same of a model that is loaded."""
    classify = tf.function(
        lambda image_bytes: serving.probabilities(serving.prepare(image_bytes)),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    return Classifier(serving.label_names, lambda images: classify(tf.constant(images)))


def load_saved_model(directory: str) -> Classifier:
    """The classifier in a SavedModel that `export` wrote."""
    signatures = load_signatures(directory)
    names = signatures[LABELS_SIGNATURE]()["label_names"].numpy()
    return Classifier(
        tuple(name.decode() for name in names),
        lambda images: signatures["serving_default"](image_bytes=tf.constant(images))["probabilities"],
    )


def load_signatures(directory: str) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """The signatures of a SavedModel that `export` wrote. Raises UserError for any other."""
    if not tf.io.gfile.exists(f"{directory}/saved_model.pb"):
        raise UserError(f"--saved_model={directory}: no SavedModel here. `main.py export` writes one.")
    loaded = tf.saved_model.load(directory)
    missing = {"serving_default", IMAGES_SIGNATURE, LABELS_SIGNATURE} - set(loaded.signatures)
    if missing:
        raise UserError(
            f"--saved_model={directory}: was not written by `main.py export`: it has no signature "
            f"{', '.join(sorted(missing))}."
        )
    return {name: functools.partial(_call_signature, loaded, name) for name in loaded.signatures}


def _call_signature(loaded: Any, name: str, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    """Signatures do not keep the object they belong to alive; what holds this call does."""
    return loaded.signatures[name](**inputs)
