"""Classifying image files, for people and for programs."""

import csv
import io
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from efficientnet_tpu import classifier
from efficientnet_tpu.config import Config, UserError
from efficientnet_tpu.data import image_format
from efficientnet_tpu.data.image_folder import EXTENSIONS
from efficientnet_tpu.data.unreadable import reason_of
from efficientnet_tpu.pictures import check_picture, fitted, write_png


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of a file, in descending order, with their probabilities."""

    path: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def predict_paths(config: Config, words: Sequence[str]) -> None:
    """`main.py predict`: prints the classes of every image the words name. Files that are no image are named last."""
    paths = expand(words)
    if config.output.picture:
        check_picture(config.output.picture)
    if config.output.saved_model:
        model = classifier.load_saved_model(config.output.saved_model)
    else:
        model = classifier.load_run(config)
    unreadable: list[str] = []
    predictions: list[Prediction] = []
    files = _readable(paths, unreadable)
    while batch := list(itertools.islice(files, config.eval.eval_batch_size)):
        predictions += predict(model, batch, config.output.top_k)
    if predictions:
        print(FORMATS[config.output.format](predictions))
    if predictions and config.output.picture:
        draw_grid(predictions, config.output.picture)
        print(f"{config.output.picture}: the images with their predictions", file=sys.stderr)
    for path_and_reason in unreadable:
        print(f"cannot be read: {path_and_reason}", file=sys.stderr)
    if unreadable and not predictions:
        raise UserError(f"{' '.join(words)}: none of the {len(unreadable)} files is a readable image.")


def expand(words: Sequence[str]) -> list[str]:
    """Files, all images in folders and below, and what globs match; in order, each once."""
    paths: dict[str, None] = {}
    for word in words:
        if tf.io.gfile.isdir(word):
            walk = tf.io.gfile.walk(word)
            found = sorted(os.path.join(folder, name) for folder, _, names in walk for name in names)
            found = [path for path in found if path.lower().endswith(EXTENSIONS)]
        else:
            matches = [word] if tf.io.gfile.exists(word) else sorted(tf.io.gfile.glob(word))
            found = [path for path in matches if not tf.io.gfile.isdir(path)]
        if not found:
            raise UserError(f"{word}: no such file, folder with images, or glob with a match.")
        paths.update(dict.fromkeys(found))
    return list(paths)


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
    """(path, content) of the files that decode; the others, with the reason, are added to `unreadable`."""
    for path in paths:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
        reason = reason_of(content)
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


def _as_json(predictions: Sequence[Prediction]) -> str:
    return json.dumps([vars(prediction) for prediction in predictions], indent=1)


# The keys are config.OUTPUT_FORMATS.
FORMATS = {"text": _as_text, "csv": _as_csv, "json": _as_json}

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
