"""Classifies image files, for people and for programs."""

import csv
import io
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.decoding import image_format
from efficientnet_tpu.data.decoding.unreadable_reason import unreadable_reason
from efficientnet_tpu.data.sources.image_folder import EXTENSIONS
from efficientnet_tpu.display.image_grid import fitted, write_png
from efficientnet_tpu.display.terminal import ImageProgress
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import classifier, formats
from efficientnet_tpu.model_inspection import class_activation_map
from efficientnet_tpu.storage import writable

STDIN = "-"


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of a file, in descending order, with their probabilities."""

    path: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def predict_paths(config: Config, words: Sequence[str]) -> None:
    """`main.py predict`: prints the classes of every image the words name. Files that are no image are named last, and
    then the exit status is 1.
    """
    paths = expand(words)
    output = config.output
    if output.picture:
        writable.check_file(output.picture, "picture")
    if output.cam:
        class_activation_map.check_folder(output.cam, output.saved_model)
    if output.saved_model:
        serving, model = None, formats.load_exported(output.saved_model)
    else:
        serving = classifier.load_serving(config)
        model = classifier.make_classifier(serving)
    predictions, unreadable = _predict_all(model, paths, config.eval.eval_batch_size, output.top_k)
    if predictions:
        print(FORMATS[output.format](predictions), flush=True)
    if predictions and output.picture:
        draw_grid(predictions, output.picture)
        print(f"{output.picture}: the images with their predictions", file=sys.stderr)
    if serving and output.cam:
        shown = [(prediction.path, prediction.classes[0], prediction.probabilities[0]) for prediction in predictions]
        class_activation_map.write_maps(serving, shown, output.cam)
        print(f"{output.cam}: {len(shown):,} class activation maps", file=sys.stderr)
    for path_and_reason in unreadable:
        print(f"cannot be read: {path_and_reason}", file=sys.stderr)
    if unreadable and not predictions:
        raise UserError(f"{' '.join(words)}: none of the {len(unreadable)} files is a readable image.")
    if unreadable:
        print(f"{len(unreadable):,} of {len(paths):,} files cannot be read", file=sys.stderr)
        raise SystemExit(1)


def _predict_all(
    model: classifier.Classifier, paths: Sequence[str], batch_size: int, top_k: int
) -> tuple[list[Prediction], list[str]]:
    """Returns predictions of the readable files, and the other files with the reasons. Progress goes to stderr."""
    unreadable: list[str] = []
    predictions: list[Prediction] = []
    started = time.monotonic()
    progress = ImageProgress("predicted", len(paths), sys.stderr)
    files = _readable(paths, unreadable)
    num_unreadable = 0
    while batch := list(itertools.islice(files, batch_size)):
        predictions += predict(model, batch, top_k)
        found, num_unreadable = len(unreadable) - num_unreadable, len(unreadable)
        progress.advance(len(batch) + found, found)
    if len(predictions) > 1:
        seconds = time.monotonic() - started
        rate = f"{len(predictions) / seconds:.1f} images/s"
        print(f"{len(predictions):,} images in {seconds:.1f} s, {rate}", file=sys.stderr)
    return predictions, unreadable


def expand(words: Sequence[str]) -> list[str]:
    """Returns files, all images in folders and below, what globs match, and for the word `-` what the lines of stdin
    name; in order, each once.
    """
    paths: dict[str, None] = {}
    for word in words:
        if word == STDIN:
            listed = [line.rstrip("\r\n") for line in sys.stdin]
            for path in filter(None, listed):
                # A program's list may be long and a file of it be gone: that is no reason to stop.
                paths.update(dict.fromkeys(_expand_word(path) or [path]))
            continue
        found = _expand_word(word)
        if not found:
            raise UserError(f"{word}: no such file, folder with images, or glob with a match.")
        paths.update(dict.fromkeys(found))
    if not paths:
        raise UserError("-: no file is named on stdin; give one a line.")
    return list(paths)


def _expand_word(word: str) -> list[str]:
    """Returns what one word names; nothing where that is not there."""
    if tf.io.gfile.isdir(word):
        walk = tf.io.gfile.walk(word)
        found = sorted(os.path.join(folder, name) for folder, _, names in walk for name in names)
        return [path for path in found if path.lower().endswith(EXTENSIONS)]
    matches = [word] if tf.io.gfile.exists(word) else sorted(tf.io.gfile.glob(word))
    return [path for path in matches if not tf.io.gfile.isdir(path)]


def predict(model: classifier.Classifier, files: Sequence[tuple[str, bytes]], top_k: int) -> list[Prediction]:
    """Classifies a batch of (path, content) pairs."""
    predictions = []
    probabilities = np.asarray(model.probabilities([content for _, content in files]))
    for (path, _), row in zip(files, probabilities, strict=True):
        order = np.argsort(-row, kind="stable")[:top_k]
        names = tuple(model.label_names[index] for index in order)
        predictions.append(Prediction(path, names, tuple(float(row[index]) for index in order)))
    return predictions


def _readable(paths: Sequence[str], unreadable: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yields (path, content) of the files that decode; the others, with the reason, are added to `unreadable`."""
    for path in paths:
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                content = file.read()
        except tf.errors.NotFoundError:
            unreadable.append(f"{path}: no such file")
            continue
        except tf.errors.OpError as error:
            unreadable.append(f"{path}: {error.message}")
            continue
        reason = unreadable_reason(content)
        if reason:
            unreadable.append(f"{path}: {reason}")
        else:
            yield path, content


def _as_text(predictions: Sequence[Prediction]) -> str:
    width = max((len(prediction.path) for prediction in predictions), default=0)
    return "\n".join(
        f"{prediction.path:<{width}}  "
        + "  ".join(
            f"{name} {probability:.1%}"
            for name, probability in zip(prediction.classes, prediction.probabilities, strict=True)
        )
        for prediction in predictions
    )


def _as_csv(predictions: Sequence[Prediction]) -> str:
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["path", "rank", "class", "probability"])
    for prediction in predictions:
        for rank, (name, probability) in enumerate(
            zip(prediction.classes, prediction.probabilities, strict=True), start=1
        ):
            writer.writerow([prediction.path, rank, name, f"{probability:.6f}"])
    return output.getvalue().rstrip("\n")


# The keys are config.OUTPUT_FORMATS.
FORMATS = {
    "text": _as_text,
    "csv": _as_csv,
    "json": lambda predictions: json.dumps([vars(prediction) for prediction in predictions], indent=1),
}

TILE, CAPTION = 140, 34


def draw_grid(predictions: Sequence[Prediction], path: str) -> None:
    """Writes a PNG with the images in a square grid, the most probable class and its probability under each."""
    columns = max(1, round(len(predictions) ** 0.5))
    rows = -(-len(predictions) // columns)
    grid = Image.new("RGB", (columns * TILE, rows * (TILE + CAPTION)), "white")
    draw = ImageDraw.Draw(grid)
    for index, prediction in enumerate(predictions):
        left, top = index % columns * TILE, index // columns * (TILE + CAPTION)
        with tf.io.gfile.GFile(prediction.path, "rb") as file:
            image = image_format.decode(tf.constant(file.read())).numpy()
        tile = fitted(image, TILE - 8)
        grid.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        caption = f"{prediction.classes[0]}\n{prediction.probabilities[0]:.0%}"
        draw.multiline_text((left + TILE / 2, top + TILE), caption, "black", anchor="ma", align="center")
    write_png(grid, path)
