"""Reads images of a split again for a report page: as the model saw them, with activation maps."""

import io
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.split import SINGLE_HOST, Split
from efficientnet_tpu.display.image_grid import fitted
from efficientnet_tpu.evaluate import EvaluatedRun, evaluation_image
from efficientnet_tpu.hardware.placement import is_tpu
from efficientnet_tpu.model_inspection.class_activation_map import class_maps, overlay
from efficientnet_tpu.model_inspection.report.contents import ShownImage
from efficientnet_tpu.model_inspection.report.pictures import TINY
from efficientnet_tpu.model_inspection.statistics import Predictions

SIDE = 320  # pixels of a picture's longer side at most: twice what a tile has, for screens of twice the pixels


class ShownImages:
    """The images of an evaluated split, by position in stored order."""

    def __init__(self, config: Config, run: EvaluatedRun, predictions: Predictions) -> None:
        self._run, self._predictions = run, predictions
        self._prepare = evaluation_image(config.data, run.architecture, run.split.is_reduced)
        self._folder = config.data.data_dir.rstrip("/") + "/" if config.data.data_dir else ""

    def show(self, positions: Sequence[int]) -> list[ShownImage]:
        """Returns images without maps."""
        return [self._shown(position, self._pixels(position), {}) for position in positions]

    def show_maps(self, positions: Sequence[int]) -> tuple[list[ShownImage], str]:
        """Returns images with a map of the predicted class and, of a mistake, of the true one; and a sentence on why
        there are none, as on a TPU, where a model runs compiled only.
        """
        if is_tpu(self._run.strategy):
            return [], "They are drawn on a CPU or a GPU, not on a TPU."
        shown = []
        for position in positions:
            pixels = self._pixels(position)
            labels, predicted = self._predictions.labels, self._predictions.predicted
            classes = dict.fromkeys([int(predicted[position]), int(labels[position])])
            weights, _ = class_maps(self._run.model, np.repeat(pixels[np.newaxis], len(classes), axis=0), [*classes])
            if weights[0].size == 1:
                return [], f"The network's last map has a single place for images of {pixels.shape[0]} pixels."
            large = pixels if min(pixels.shape[:2]) > TINY else np.asarray(fitted(pixels, SIDE // 2))
            maps = {
                self._run.label_names[label]: picture_file(overlay(large, one))
                for label, one in zip(classes, weights, strict=True)
            }
            shown.append(self._shown(position, pixels, maps))
        return shown, ""

    def _pixels(self, position: int) -> np.ndarray:
        """Returns an image as the model sees it: uint8 [resolution, resolution, 3]."""
        split = self._run.split
        encoded, _ = split.load(next(iter(split.handles(SINGLE_HOST, None, position).take(1))))
        return self._prepare(encoded).numpy()

    def _shown(self, position: int, pixels: np.ndarray, maps: dict[str, bytes]) -> ShownImage:
        predictions, names = self._predictions, self._run.label_names
        return ShownImage(
            picture=picture_file(pixels),
            where=self._run.split.locate(SINGLE_HOST, None, position).removeprefix(self._folder),
            label=names[predictions.labels[position]],
            label_probability=float(predictions.label_probabilities[position]),
            predicted=names[predictions.predicted[position]],
            confidence=float(predictions.confidences[position]),
            maps=maps,
        )


def picture_file(pixels: np.ndarray) -> bytes:
    """Returns a small file for a page: of a tiny image a PNG file with its pixels, else a JPEG file.

    pixels: uint8 [height, width, 3].
    """
    buffer = io.BytesIO()
    if max(pixels.shape) <= TINY:
        Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    else:
        picture = fitted(pixels, SIDE) if max(pixels.shape) > SIDE else Image.fromarray(pixels)
        picture.save(buffer, "JPEG", quality=85, optimize=True)
    return buffer.getvalue()


def image_places(split: Split) -> list[str]:
    """Returns where each image is, in stored order: its path, or a shard and a record; "" where no file holds it."""
    paths = split.paths()
    if paths is not None:
        return [path.decode(errors="surrogateescape") for path in paths.numpy().tolist()]
    places = []
    for path, records in split.stored_in() or []:
        first, count = map(int, records.split("+"))
        places += [f"{path} record {record}" for record in range(first, first + count)]
    return places or [""] * split.num_images


def class_counts(split: Split, num_classes: int) -> np.ndarray | None:
    """Counts the images of each class: int64 [num_classes]; None where labels are known only by reading images."""
    labels: tf.Tensor | None = split.labels()
    return None if labels is None else np.bincount(labels.numpy(), minlength=num_classes)
