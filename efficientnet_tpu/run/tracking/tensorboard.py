"""TensorBoard's files of a run: numbers, the network, what it learns from, how its weights move, what it confuses."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.display.lettering import class_captions

FOLDER = "tensorboard"
NUM_INPUTS = 16  # augmented images that are shown
# Histograms and pictures may take this share of a run's time.
MOST_TIME = 0.01
# Of a larger tensor, so many values make its histogram.
_MOST_VALUES = 1 << 16


class TensorBoard:
    """Writes scalars of each kind of entry, and pictures where that costs little."""

    def __init__(self, model_dir: str, kinds: Iterable[str]) -> None:
        """kinds: of entries that will come. Raises OSError or OpError where nothing can be written."""
        self._writers = {
            name: tf.summary.create_file_writer(os.path.join(model_dir, FOLDER, name)) for name in sorted(set(kinds))
        }

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers by their names. Raises OSError or OpError."""
        with self._writers[kind].as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self._writers[kind].flush()

    def start(self, options: Mapping[str, Any], inputs: np.ndarray, model: keras.Model) -> None:
        """Writes what a new run begins with: its options, its first images as they are augmented, its network.

        inputs: uint8 [count, size, size, 3].
        """
        from tensorboard.plugins.hparams import api as hparams

        known = {
            name: value if isinstance(value, bool | int | float) else str(value) for name, value in options.items()
        }
        with self._writers["train"].as_default(step=0):
            hparams.hparams(known)
            tf.summary.image("augmented inputs", inputs, max_outputs=len(inputs))
            spec = tf.TensorSpec([None, *model.input_shape[1:]], model.input.dtype)
            graph = tf.function(lambda images: model(images, training=False)).get_concrete_function(spec).graph
            tf.summary.graph(graph)
        self._writers["train"].flush()

    def weights(self, step: int, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        """Writes histograms of the weights, and of what the last step subtracted from them."""
        with self._writers["train"].as_default(step=step):
            for weight in model.trainable_variables:
                tf.summary.histogram(f"weights/{weight.path}", _values(weight))
            for update in getattr(optimizer, "_momentums", []):
                tf.summary.histogram(f"updates/{update.path}", _values(update))
        self._writers["train"].flush()

    def confusion(self, kind: str, step: int, counts: np.ndarray, label_names: Sequence[str]) -> None:
        """Writes a picture of the confusion matrix: counts [label, prediction]."""
        with self._writers[kind].as_default(step=step):
            tf.summary.image("confusion", tf.io.decode_png(confusion_png(counts, label_names), channels=3)[tf.newaxis])
        self._writers[kind].flush()


class Throttle:
    """Runs what is no part of training only as often as costs little."""

    def __init__(self, most_share: float = MOST_TIME) -> None:
        """most_share: 0 never runs it."""
        self._most_share = most_share
        self._ended = time.monotonic()
        self._seconds = 0.0  # of the last time

    def run(self, work: Callable[[], None]) -> None:
        """Calls `work` if it took at most the share of the time since it was last called."""
        started = time.monotonic()
        if not self._most_share or self._seconds > self._most_share * (started - self._ended):
            return
        work()
        self._ended = time.monotonic()
        self._seconds = self._ended - started


def confusion_png(counts: np.ndarray, label_names: Sequence[str]) -> bytes:
    """Draws a confusion matrix, counts [label, prediction], colored by row. Returns the content of a PNG file."""
    from efficientnet_tpu.display.plotting import Figure, png

    side = 2.5 + 0.3 * len(label_names)
    figure = Figure(figsize=(side, side), dpi=100)
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = class_captions(label_names)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    for (label, predicted), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[label, predicted] > 0.5 else "black"
            axes.text(predicted, label, f"{count:,.0f}", ha="center", va="center", fontsize=6, color=color)
    return png(figure)


def _values(weight: Any) -> np.ndarray:
    """Returns the values of a variable, or evenly chosen ones of a large one."""
    values = np.ravel(keras.ops.convert_to_numpy(weight.value))
    return values[:: -(-len(values) // _MOST_VALUES)]
