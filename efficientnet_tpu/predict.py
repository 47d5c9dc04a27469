"""Classifies image files, for people and for programs.

Files are a stream: threads read them once each, one batch is decoded while another is classified, and results are
printed and forgotten, so that a million images take the memory of a few batches.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.decoding.image_batches import BatchSize, read_batches
from efficientnet_tpu.data.decoding.unreadable_reason import unreadable_reason
from efficientnet_tpu.data.parallel_map import one_ahead
from efficientnet_tpu.data.preprocessing import reading_of
from efficientnet_tpu.data.sources import named_files
from efficientnet_tpu.data.sources.labelled_files import left_out_line
from efficientnet_tpu.display.prediction_output import Prediction
from efficientnet_tpu.display.terminal import ImageProgress
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.exporting import classifier, formats
from efficientnet_tpu.model_inspection import class_activation_map, prediction_outputs
from efficientnet_tpu.model_inspection.prediction_outputs import PredictionOutputs
from efficientnet_tpu.storage import writable
from efficientnet_tpu.texts.printable import escaped, shown

_FIRST_BATCH = 8  # results come early
_MOST_KEPT = 1000  # lines on unreadable files, before they are printed


@dataclass(frozen=True)
class Batch:
    """Files of a batch as they go through the program.

    contents: of the files. images: uint8 [batch, resolution, resolution, 3]; the contents again where the model
    prepares them itself.
    """

    paths: list[str]
    contents: list[bytes]
    images: Any


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
        model = classifier.make_classifier(serving, len(paths))
        if serving.note:
            print(serving.note, file=sys.stderr)
    if output.embeddings and not model.embed:
        raise UserError(
            f"--embeddings={output.embeddings}: {output.saved_model} was written by an earlier version and gives no "
            "features. Export the run again, or name it by --model_dir."
        )
    unreadable = Unreadable()
    with prediction_outputs.opened(output, max(map(len, paths))) as outputs:
        outputs.draw_with(serving, model.label_names, reading_of(config.data))
        num_predicted, interrupted = _predict_all(model, paths, config, unreadable, outputs)
        outputs.finish_pictures()
        unreadable.print_kept()
        if interrupted:
            which = " and ".join(prediction_outputs.partial_files(output)) or "what is printed"
            done = f"{num_predicted + unreadable.count:,} of {len(paths):,} files"
            left = f"{which} is complete so far" if num_predicted else "nothing was classified"
            print(f"interrupted after {done}; {left}", file=sys.stderr)
            raise SystemExit(130)
        if unreadable.count and not num_predicted:
            raise UserError(f"{shown(' '.join(words))}: none of the {unreadable.count} files is a readable image.")
    for path in filter(None, (output.output, output.embeddings)):
        print(f"{path}: {num_predicted:,} images", file=sys.stderr)
    if unreadable.count:
        print(f"{unreadable.count:,} of {len(paths):,} files cannot be read", file=sys.stderr)
        raise SystemExit(1)


class Unreadable:
    """The files that cannot be read, each with its reason: kept until the end, or until they are many."""

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[str] = []

    def add(self, path_and_reason: str) -> None:
        """Counts a file, by the text 'path: reason'."""
        self.count += 1
        self._kept.append(path_and_reason)
        if len(self._kept) == _MOST_KEPT:
            self.print_kept()

    def print_kept(self) -> None:
        """Prints the lines that are kept, to stderr."""
        lines, self._kept = self._kept, []
        for path_and_reason in lines:
            print(f"cannot be read: {escaped(path_and_reason)}", file=sys.stderr)


def _predict_all(
    model: classifier.Classifier,
    paths: Sequence[str],
    config: Config,
    unreadable: Unreadable,
    outputs: PredictionOutputs,
) -> tuple[int, bool]:
    """Classifies files, and gives the predictions to the outputs batch by batch. Progress goes to stderr.

    Returns the number of images that were classified, and whether Ctrl-C ended it.
    """
    started = time.monotonic()
    progress = ImageProgress("predicted", len(paths), sys.stderr)
    num_predicted = num_unreadable = 0
    interrupted = False
    size = BatchSize(_FIRST_BATCH, config.eval.eval_batch_size)
    try:
        for batch in one_ahead(prepared_batches(model, paths, size, unreadable.add)):
            begun = time.monotonic()
            found, features = predict(model, batch, config.output.top_k, bool(config.output.embeddings))
            size.grow(time.monotonic() - begun)
            outputs.add(found, batch.contents, batch.images, features)
            num_predicted += len(found)
            new, num_unreadable = unreadable.count - num_unreadable, unreadable.count
            progress.advance(len(found) + new, new)
    except KeyboardInterrupt:
        interrupted = True
    if num_predicted > 1:
        seconds = time.monotonic() - started
        rate = f"{num_predicted / seconds:.1f} images/s"
        print(f"{num_predicted:,} images in {seconds:.1f} s, {rate}", file=sys.stderr)
    return num_predicted, interrupted


def prepared_batches(
    model: classifier.Classifier, paths: Iterable[str], size: BatchSize, on_unreadable: Callable[[str], None]
) -> Iterator[Batch]:
    """Reads and prepares files, in order. on_unreadable: gets 'path: reason' for each that cannot be read."""
    for files in read_batches(paths, size, on_unreadable, decodes=model.prepare is None):
        if batch := _prepared(model, files, on_unreadable):
            yield batch


def _prepared(
    model: classifier.Classifier, files: Sequence[tuple[str, bytes]], on_unreadable: Callable[[str], None]
) -> Batch | None:
    """Prepares files; if some of them turn out to be damaged, the others. Returns None where none is left."""
    paths, contents = [path for path, _ in files], [content for _, content in files]
    if not model.prepare:
        return Batch(paths, contents, contents)
    try:
        return Batch(paths, contents, model.prepare(contents))
    except tf.errors.OpError:
        reasons = [unreadable_reason(content) for content in contents]
        if not any(reasons):
            raise
    for path, reason in zip(paths, reasons, strict=True):
        if reason:
            on_unreadable(f"{path}: {reason}")
    good = [file for file, reason in zip(files, reasons, strict=True) if not reason]
    return _prepared(model, good, on_unreadable) if good else None


def expand(words: Sequence[str]) -> list[str]:
    """Returns the files that the words name. What folders hold besides images is counted on stderr."""
    files = named_files.expand(words)
    if files.left_out:
        print(left_out_line(files.left_out), file=sys.stderr)
    return files.paths


def predict(
    model: classifier.Classifier, batch: Batch, top_k: int, embeds: bool = False
) -> tuple[list[Prediction], np.ndarray | None]:
    """Classifies a batch. Returns the predictions and, if asked, the features, float32 [batch, features]."""
    features = None
    if embeds:
        probabilities, features = map(np.asarray, model.embed(batch.images))
    else:
        probabilities = np.asarray(model.classify(batch.images))
    predictions = []
    for path, row in zip(batch.paths, probabilities, strict=True):
        order = np.argsort(-row, kind="stable")[:top_k]
        names = tuple(model.label_names[index] for index in order)
        predictions.append(Prediction(path, names, tuple(float(row[index]) for index in order)))
    return predictions, features
