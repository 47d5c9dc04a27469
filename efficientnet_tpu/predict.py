"""Classifies image files, for people and for programs."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.decoding import image_format
from efficientnet_tpu.data.decoding.image_batches import read_batches
from efficientnet_tpu.data.decoding.image_format import AS_USUAL, Reading
from efficientnet_tpu.data.preprocessing import reading_of
from efficientnet_tpu.data.sources import named_files
from efficientnet_tpu.data.sources.labelled_files import left_out_line
from efficientnet_tpu.display.image_grid import Tile, fitted, grid, write_png
from efficientnet_tpu.display.lettering import class_captions, legend
from efficientnet_tpu.display.prediction_output import FORMS, Prediction, PredictionWriter
from efficientnet_tpu.display.terminal import ImageProgress
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import classifier, formats
from efficientnet_tpu.model_inspection import class_activation_map
from efficientnet_tpu.storage import writable
from efficientnet_tpu.texts.printable import escaped, shown

_FIRST_BATCH = 8  # results come early


def predict_paths(config: Config, words: Sequence[str]) -> None:
    """`main.py predict`: prints the classes of every image the words name. Files that are no image are named last, and
    then the exit status is 1. Ctrl-C ends it with what is printed so far, and status 130.
    """
    paths = expand(words)
    output = config.output
    if output.picture:
        writable.check_file(output.picture, "picture")
    if output.cam:
        class_activation_map.check_folder(output.cam, output.saved_model)
    if output.saved_model:
        serving, model = None, formats.load_exported(output.saved_model, output.trust)
    else:
        serving = classifier.load_serving(config)
        model = classifier.make_classifier(serving)
        if serving.note:
            print(serving.note, file=sys.stderr)
    outcome = _predict_all(model, paths, config)
    predictions = outcome.predictions
    if predictions and (output.picture or output.cam):
        _draw(outcome, serving, model.label_names, config)
    for path_and_reason in outcome.unreadable:
        print(f"cannot be read: {escaped(path_and_reason)}", file=sys.stderr)
    if outcome.interrupted:
        done = len(predictions) + len(outcome.unreadable)
        print(f"interrupted after {done:,} of {len(paths):,} files; what is printed is complete", file=sys.stderr)
        raise SystemExit(130)
    if outcome.unreadable and not predictions:
        raise UserError(f"{shown(' '.join(words))}: none of the {len(outcome.unreadable)} files is a readable image.")
    if outcome.unreadable:
        print(f"{len(outcome.unreadable):,} of {len(paths):,} files cannot be read", file=sys.stderr)
        raise SystemExit(1)


@dataclass
class _Outcome:
    """The predictions of the readable files, the other files with the reasons, and whether Ctrl-C ended it."""

    predictions: list[Prediction]
    unreadable: list[str]
    interrupted: bool = False


def _draw(outcome: _Outcome, serving: classifier.Serving | None, label_names: Sequence[str], config: Config) -> None:
    """Writes --picture and --cam, and prints what they are and which classes have numbers in them."""
    output, predictions = config.output, outcome.predictions
    if output.picture:
        draw_grid(predictions, label_names, output.picture, reading_of(config.data))
        print(f"{output.picture}: the images with their predictions", file=sys.stderr)
    if serving and output.cam and not outcome.interrupted:
        top = [(prediction.path, prediction.classes[0], prediction.probabilities[0]) for prediction in predictions]
        class_activation_map.write_maps(serving, top, output.cam)
        print(f"{output.cam}: {len(top):,} class activation maps", file=sys.stderr)
    if numbers := legend(label_names):
        print(numbers, file=sys.stderr)


def _predict_all(model: classifier.Classifier, paths: Sequence[str], config: Config) -> _Outcome:
    """Classifies files, and prints the predictions batch by batch. Progress goes to stderr."""
    outcome = _Outcome([], [])
    started = time.monotonic()
    progress = ImageProgress("predicted", len(paths), sys.stderr)
    writer = PredictionWriter(FORMS[config.output.format], max(map(len, paths), default=0), sys.stdout)
    num_unreadable = 0
    largest_size = config.eval.eval_batch_size
    first_size = min(_FIRST_BATCH, largest_size)
    try:
        for batch in read_batches(paths, first_size, largest_size, outcome.unreadable.append):
            found = predict(model, batch, config.output.top_k)
            writer.write(found)
            outcome.predictions += found
            new, num_unreadable = len(outcome.unreadable) - num_unreadable, len(outcome.unreadable)
            progress.advance(len(batch) + new, new)
    except KeyboardInterrupt:
        outcome.interrupted = True
    finally:
        writer.close()
    if len(outcome.predictions) > 1:
        seconds = time.monotonic() - started
        rate = f"{len(outcome.predictions) / seconds:.1f} images/s"
        print(f"{len(outcome.predictions):,} images in {seconds:.1f} s, {rate}", file=sys.stderr)
    return outcome


def expand(words: Sequence[str]) -> list[str]:
    """Returns the files that the words name. What folders hold besides images is counted on stderr."""
    files = named_files.expand(words)
    if files.left_out:
        print(left_out_line(files.left_out), file=sys.stderr)
    return files.paths


def predict(model: classifier.Classifier, files: Sequence[tuple[str, bytes]], top_k: int) -> list[Prediction]:
    """Classifies a batch of (path, content) pairs."""
    predictions = []
    probabilities = np.asarray(model.probabilities([content for _, content in files]))
    for (path, _), row in zip(files, probabilities, strict=True):
        order = np.argsort(-row, kind="stable")[:top_k]
        names = tuple(model.label_names[index] for index in order)
        predictions.append(Prediction(path, names, tuple(float(row[index]) for index in order)))
    return predictions


_TILE = 160  # side of an image in --picture, in pixels


def draw_grid(
    predictions: Sequence[Prediction], label_names: Sequence[str], path: str, reading: Reading = AS_USUAL
) -> None:
    """Writes a PNG with the images in a square grid, the most probable class and its probability under each."""
    captions = dict(zip(label_names, class_captions(label_names), strict=True))
    tiles = []
    for prediction in predictions:
        with tf.io.gfile.GFile(prediction.path, "rb") as file:
            image = image_format.decode(tf.constant(file.read()), reading).numpy()
        name, probability = captions[prediction.classes[0]], prediction.probabilities[0]
        tiles.append(Tile(np.asarray(fitted(image, _TILE)), [name, f"{probability:.0%}"]))
    write_png(grid(tiles, max(1, round(len(tiles) ** 0.5)), _TILE), path)
