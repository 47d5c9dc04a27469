"""The picture of `predict --picture`: images in a grid, the most probable class and its probability under each."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from efficientnet_tpu.data.decoding import image_format
from efficientnet_tpu.data.decoding.image_format import AS_USUAL, Reading
from efficientnet_tpu.display.image_grid import Tile, fitted, grid, write_png
from efficientnet_tpu.display.lettering import class_captions
from efficientnet_tpu.display.prediction_output import Prediction

MOST_TILES = 1000  # 80 MB; further images are not drawn
_TILE = 160  # side of an image in pixels


class PredictionGrid:
    """The images predicted so far as tiles, the first MOST_TILES of them."""

    def __init__(self, label_names: Sequence[str], reading: Reading = AS_USUAL) -> None:
        self._captions = dict(zip(label_names, class_captions(label_names), strict=True))
        self._reading = reading
        self._tiles: list[Tile] = []

    def add(self, predictions: Sequence[Prediction], contents: Sequence[bytes]) -> None:
        """Adds images by their predictions and the contents of their files."""
        room = MOST_TILES - len(self._tiles)
        for prediction, content in zip(predictions[:room], contents[:room], strict=True):
            image = image_format.decode(tf.constant(content), self._reading).numpy()
            name, probability = self._captions[prediction.classes[0]], prediction.probabilities[0]
            self._tiles.append(Tile(np.asarray(fitted(image, _TILE)), [name, f"{probability:.0%}"]))

    def write(self, path: str) -> int:
        """Writes a PNG file, where there is an image to be drawn. Returns how many there are."""
        count = len(self._tiles)
        if count:
            write_png(grid(self._tiles, max(1, round(count**0.5)), _TILE), path)
        return count
