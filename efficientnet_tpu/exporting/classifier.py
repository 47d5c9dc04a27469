"""A trained model as its users see it: contents of image files in, probabilities of named classes out.

`export` writes it and `predict` runs it, from a run's model_dir or from an exported model.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.decoding.image_format import Reading
from efficientnet_tpu.data.preprocessing import Preparation, eval_images, make_preparation
from efficientnet_tpu.exporting.inference_model import can_be_frozen, frozen_function
from efficientnet_tpu.exporting.metadata import DIGEST_PROPERTY, ExportMetadata
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.models.build import build_model
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.run import checkpoint, run_record
from efficientnet_tpu.run.chosen_checkpoint import choose_checkpoint

NUM_TOP_CLASSES = 5
# Weights as constants of the graph save a quarter of an image's CPU time, 7 ms of 27 for B0 at 224 pixels, and take a
# while to become that, 2.5 CPU s.
FROZEN_FROM = 1000  # images


@dataclass(frozen=True)
class Classifier:
    """A function from image files to probabilities, in two steps: one batch is prepared while another is classified.

    classify: prepared images -> float32 [batch, num_classes].
    prepare: contents of files -> uint8 [batch, resolution, resolution, 3]; it raises InvalidArgumentError for a file
        that cannot be read. None where `classify` takes the contents themselves.
    embed: prepared images -> probabilities as of `classify` and features float32 [batch, features], what the network
        gives to its last layer. None where it cannot be had.
    """

    label_names: tuple[str, ...]
    classify: Callable[[Any], tf.Tensor]
    prepare: Callable[[Sequence[bytes]], tf.Tensor] | None = None
    embed: Callable[[Any], tuple[np.ndarray, np.ndarray]] | None = None

    def probabilities(self, contents: Sequence[bytes]) -> tf.Tensor:
        """Classifies files by their contents: string [batch] -> float32 [batch, num_classes]."""
        return self.classify(self.prepare(contents) if self.prepare else contents)


@dataclass(frozen=True)
class Serving:
    """A run's averaged model in float32 with its preprocessing. Exports are written from it and compared with it.

    note: a line on the checkpoint it is and on the other one; "" where there is nothing to say.
    """

    model: keras.Model
    label_names: tuple[str, ...]
    preparation: Preparation
    step: int
    note: str = ""

    @property
    def resolution(self) -> int:
        """Returns the side of the images that the model takes."""
        return self.preparation.size

    @property
    def metadata(self) -> ExportMetadata:
        """Returns the facts that exported files carry."""
        reading = self.preparation.reading
        return ExportMetadata(
            self.model.name,
            self.step,
            self.label_names,
            self.preparation.size,
            self.preparation.padding,
            reading.exif_orientation,
            reading.background,
            self.preparation.interpolation,
            DIGEST_PROPERTY,
            self.preparation.downscale,
        )

    def weights_digest(self) -> str:
        """Returns the SHA-256 of the model's weights and of the names of the classes, in hexadecimal."""
        digest = hashlib.sha256("\n".join(self.label_names).encode())
        for weight in self.model.weights:
            digest.update(f"\n{weight.path} {weight.shape}\n".encode())
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
        return digest.hexdigest()

    def prepare(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """Prepares images as in evaluation.

        image_bytes: string [batch], image files of any size. Returns uint8 [batch, resolution, resolution, 3], RGB.
        """
        return eval_images(image_bytes, self.preparation)

    def probabilities(self, images: tf.Tensor) -> tf.Tensor:
        """Classifies prepared images: uint8 [batch, height, width, 3] -> float32 [batch, num_classes]."""
        return tf.nn.softmax(self.model(images, training=False))

    def answer(self, probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns what signatures return: the most probable classes in descending order, and all probabilities.

        probabilities: float32 [batch, num_classes], returned as it is, with class_ids int32 [batch, 5] and class_names
        string [batch, 5].
        """
        _, class_ids = tf.math.top_k(probabilities, k=min(NUM_TOP_CLASSES, len(self.label_names)))
        class_names = tf.gather(tf.constant(self.label_names), class_ids)
        return {"class_ids": class_ids, "class_names": class_names, "probabilities": probabilities}


@dataclass(frozen=True)
class ExportedModel:
    """An exported model in its own runtime.

    probabilities: of prepared images in one call, uint8 [batch, resolution, resolution, 3] -> float32
        [batch, num_classes].
    metadata: None where the model itself prepares image files, as a SavedModel does.
    images_per_call: the batch that the runtime takes best; None where any will do.
    """

    classifier: Classifier
    probabilities: Callable[[np.ndarray], np.ndarray]
    metadata: ExportMetadata | None
    images_per_call: int | None = None


def prepared_by_tensorflow(
    metadata: ExportMetadata,
    probabilities: Callable[[np.ndarray], np.ndarray],
    make_embed: Callable[[], Callable[[np.ndarray], Sequence[np.ndarray]]] | None = None,
    images_per_call: int | None = None,
) -> ExportedModel:
    """Completes a model that takes prepared images with TensorFlow's preprocessing, the same as in evaluation.

    probabilities: uint8 [batch, resolution, resolution, 3] -> float32 [batch, num_classes].
    make_embed: loads what gives the features too, when they are asked for; returns a function of the same images to
        probabilities and float32 [batch, features].
    """
    reading = Reading(metadata.exif_orientation, metadata.background)
    preparation = Preparation(
        metadata.resolution, metadata.eval_crop_padding, reading, metadata.interpolation, metadata.downscale
    )
    prepare = tf.function(
        lambda encoded: eval_images(encoded, preparation),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )

    def classify(images: tf.Tensor) -> tf.Tensor:
        pixels = np.asarray(images)
        return tf.constant(in_batches(probabilities, pixels, images_per_call or len(pixels)))

    loaded_embed = functools.cache(make_embed) if make_embed else None

    def embed(images: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        pixels = np.asarray(images)
        size = images_per_call or len(pixels)
        parts = [loaded_embed()(pixels[first : first + size]) for first in range(0, len(pixels), size)]
        found, features = (np.concatenate(of_parts) for of_parts in zip(*parts, strict=True))
        return found, features

    classifier = Classifier(
        metadata.label_names, classify, lambda encoded: prepare(tf.constant(encoded)), embed if make_embed else None
    )
    return ExportedModel(classifier, probabilities, metadata, images_per_call)


def in_batches(function: Callable[[Sequence], np.ndarray], items: Sequence, size: int) -> np.ndarray:
    """Applies a function to batches of `size` items, and joins the results: [count, ...]."""
    parts = [np.asarray(function(items[first : first + size])) for first in range(0, len(items), size)]
    return np.concatenate(parts)


def load_serving(config: Config) -> Serving:
    """Loads the run in model_dir, in float32 whatever it was trained in. config: the run's own."""
    record = run_record.load(config.run.model_dir)
    run_record.require_same_weights(record.config, config)
    architecture = configured_architecture(config.model, len(record.label_names))
    with distribution.precision("float32"):
        model = build_model(architecture)
    chosen = choose_checkpoint(record.config, config.eval.checkpoint)
    step = checkpoint.restore_average(model, config.run.model_dir, chosen.which)
    preparation = make_preparation(config.data, architecture.resolution, architecture.interpolation)
    return Serving(model, record.label_names, preparation, step, chosen.note)


def make_classifier(serving: Serving, num_images: int = 1) -> Classifier:
    """Compiles a run's preprocessing and its model. num_images: that it will be asked for, if that is known."""
    spec = tf.TensorSpec([None, serving.resolution, serving.resolution, 3], tf.uint8)
    prepare = tf.function(serving.prepare, [tf.TensorSpec([None], tf.string)], autograph=False)
    frozen = num_images >= FROZEN_FROM and can_be_frozen(serving.model)

    @functools.cache
    def compiled(embeds: bool) -> Callable[[tf.Tensor], Any]:
        model = with_features(serving.model) if embeds else serving.model
        if frozen:
            return frozen_function(model, spec)
        return tf.function(lambda images: model(images, training=False), input_signature=[spec], autograph=False)

    def classify(images: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(compiled(False)(images))

    def embed(images: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        logits, features = compiled(True)(images)
        return tf.nn.softmax(logits).numpy(), features.numpy()

    return Classifier(serving.label_names, classify, lambda encoded: prepare(tf.constant(encoded)), embed)


def with_features(model: keras.Model) -> keras.Model:
    """Returns a model that gives two outputs: the model's own, and features float32 [batch, features], the means over
    the last map.
    """
    return keras.Model(model.input, [model.output, model.get_layer("pool").output], name=model.name)
