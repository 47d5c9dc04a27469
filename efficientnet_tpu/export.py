"""Writing a trained model as a SavedModel that needs none of this package: averaged weights, preprocessing inside."""

import os

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.classifier import LABELS_SIGNATURE, Serving, load_saved_model, load_serving
from efficientnet_tpu.config import Config, UserError

# Probabilities of a reloaded model; its kernels may sum in another order, nothing else may differ.
TOLERANCE = 1e-5


def export_run(config: Config) -> None:
    """`main.py export`: writes --output_dir, having read it back and compared it with the run's own model."""
    output_dir = config.output.output_dir.rstrip("/")
    if tf.io.gfile.exists(output_dir):
        raise UserError(f"--output_dir={output_dir}: exists already. Choose a new directory, or remove it first.")
    temporary = f"{output_dir}.{os.getpid()}.tmp"
    try:
        tf.io.gfile.makedirs(temporary)
    except tf.errors.OpError as error:
        raise UserError(
            f"--output_dir={output_dir}: cannot be written: {error.message}. Choose another directory."
        ) from error
    try:
        serving = load_serving(config)
        write_saved_model(serving, temporary)
        difference = largest_difference(serving, temporary)
        if not difference <= TOLERANCE:  # so that nan is refused too
            raise RuntimeError(
                f"the exported model's probabilities differ from the run's by {difference:.2g}, more than "
                f"{TOLERANCE:g}; nothing was written to {output_dir}"
            )
        tf.io.gfile.rename(temporary, output_dir)
    finally:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.rmtree(temporary)
    print(
        f"{output_dir}: SavedModel of {serving.model.name} at step {serving.step}, averaged weights, "
        f"{len(serving.label_names)} classes, {_megabytes(output_dir):.1f} MB\n"
        f"read back and compared on {len(_test_images())} images: probabilities differ by at most {difference:.1g}\n"
        "signatures: serving_default (image_bytes: files), images (uint8 pixels), label_names"
    )


def write_saved_model(serving: Serving, directory: str) -> None:
    """The three signatures of a SavedModel: files, pixels, names of the classes."""
    archive = keras.export.ExportArchive()
    archive.track(serving.model)
    size = serving.resolution
    archive.add_endpoint(
        "serving_default", serving.classify_bytes, [tf.TensorSpec([None], tf.string, name="image_bytes")]
    )
    archive.add_endpoint(
        "images", serving.classify_images, [tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")]
    )
    archive.add_endpoint(LABELS_SIGNATURE, serving.all_label_names, [])
    archive.write_out(directory, verbose=False)


def largest_difference(serving: Serving, directory: str) -> float:
    """Largest |probability difference| between a run's model and what was written of it; nan if labels differ."""
    written = load_saved_model(directory)
    if written.label_names != serving.label_names:
        return float("nan")
    images = _test_images()
    expected = serving.classify_bytes(tf.constant(images))["probabilities"]
    return float(tf.reduce_max(tf.abs(written.probabilities(images) - expected)))


def _test_images() -> list[bytes]:
    """Files of both formats, grey and coloured, wide and tall; noise reaches every part of a network."""
    random = np.random.default_rng(0)
    images = []
    for height, width, channels in ((64, 96, 3), (200, 120, 3), (31, 33, 1), (300, 300, 3)):
        pixels = random.integers(0, 256, (height, width, channels), np.uint8)
        images += [tf.io.encode_png(pixels).numpy(), tf.io.encode_jpeg(pixels).numpy()]
    return images


def _megabytes(directory: str) -> float:
    files = (os.path.join(folder, name) for folder, _, names in tf.io.gfile.walk(directory) for name in names)
    return sum(tf.io.gfile.stat(path).length for path in files) / 1e6
