"""Class activation maps (Zhou et al. 2016): where in an image a network saw a class, as in Figure 7 of the paper.

A network that ends in a mean over the last map and one dense layer adds up its logit place by place:
logit = bias + mean over places of (features of the place . weights of the class). The map is that sum before the mean,
exact and not an approximation by gradients.
"""

import os
from collections.abc import Container, Sequence

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from efficientnet_tpu.display.image_grid import Tile, grid, write_png
from efficientnet_tpu.display.lettering import class_captions
from efficientnet_tpu.display.prediction_output import Prediction
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting.classifier import Serving
from efficientnet_tpu.storage import writable

SIDE = 300  # of a picture and of its map, in pixels
_BATCH = 16
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def check_folder(folder: str, saved_model: str) -> None:
    """Raises UserError unless maps can be made and written: now, not after the predictions."""
    if saved_model:
        raise UserError(
            f"--cam={folder}: needs the network's features, which --saved_model={saved_model} does not give. Name the "
            "run, by --model_dir."
        )
    writable.check_folder(folder, f"--cam={folder}")


def class_maps(model: keras.Model, images: np.ndarray, class_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Computes a map for each image. images: numbers 0..255 [batch, height, width, 3]. class_ids: a class for each.

    Returns maps float32 [batch, rows, columns], whose means plus the classes' biases are the logits, and all logits
    float32 [batch, num_classes].
    """
    classifier = model.get_layer("classifier")
    features_and_logits = keras.Model(model.input, [model.get_layer("pool").input, model.output])
    features, logits = features_and_logits(images, training=False)
    weights = tf.gather(classifier.kernel, class_ids, axis=1)
    return tf.einsum("bhwc,cb->bhw", tf.cast(features, tf.float32), weights).numpy(), logits.numpy()


class MapWriter:
    """A writer of a PNG file for each image: the image as the network saw it, and the map of its class over it.

    Attributes:
        paths: of the files written so far.
    """

    def __init__(self, serving: Serving, folder: str) -> None:
        self.paths: dict[str, None] = {}
        self._serving, self._folder = serving, folder
        self._captions = dict(zip(serving.label_names, class_captions(serving.label_names), strict=True))

    def write(self, predictions: Sequence[Prediction], images: np.ndarray) -> None:
        """Writes the maps of a batch. images: uint8 [batch, resolution, resolution, 3], as the network takes them."""
        for first in range(0, len(predictions), _BATCH):
            self._write_some(predictions[first : first + _BATCH], images[first : first + _BATCH])

    def _write_some(self, predictions: Sequence[Prediction], images: np.ndarray) -> None:
        class_ids = [self._serving.label_names.index(prediction.classes[0]) for prediction in predictions]
        maps, _ = class_maps(self._serving.model, images, class_ids)
        for prediction, image, weights in zip(predictions, images, maps, strict=True):
            caption = f"{self._captions[prediction.classes[0]]} {prediction.probabilities[0]:.0%}"
            tiles = [Tile(image, [os.path.basename(prediction.path)]), Tile(overlay(image, weights), [caption])]
            path = _free_path(self._folder, prediction.path, self.paths)
            write_png(grid(tiles, columns=2, side=SIDE), path, "cam")
            self.paths[path] = None


def overlay(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Draws the map in colors over the image in gray.

    image: uint8 [height, width, 3]; weights: float32 [rows, columns], a map. Returns uint8 [height, width, 3]. Red is
    where most speaks for the class in this image, blue where least does; every map uses all colors.
    """
    large = enlarged(weights, image.shape[:2])
    low, high = float(large.min()), float(large.max())
    heat = colors((large - low) / max(high - low, np.finfo(np.float32).tiny))
    grey = (image @ _GREY)[..., np.newaxis]
    return np.uint8(np.clip(0.5 * grey + 0.5 * heat, 0, 255).round())


def enlarged(weights: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Enlarges a map, float32 [rows, columns], bilinearly and aligned by pixel centers. Returns float32 [*shape]."""
    height, width = shape
    return np.asarray(Image.fromarray(np.float32(weights)).resize((width, height), Image.Resampling.BILINEAR))


def colors(values: np.ndarray) -> np.ndarray:
    """Maps 0..1 to blue, cyan, green, yellow, red: float [height, width] -> float [height, width, 3], 0..255."""
    peaks = np.array([3, 2, 1]) / 4  # where red, green and blue are strongest
    return 255 * np.clip(1.5 - 4 * np.abs(values[..., np.newaxis] - peaks), 0, 1)


def _free_path(folder: str, path: str, taken: Container[str]) -> str:
    """Returns a path by the name of the image; numbered where images in several folders have the same."""
    stem = os.path.splitext(os.path.basename(path))[0]
    found, number = os.path.join(folder, f"{stem}.png"), 1
    while found in taken:
        number += 1
        found = os.path.join(folder, f"{stem}-{number}.png")
    return found
