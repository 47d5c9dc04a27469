"""`main.py evaluate --report=DIR`: a page on what a trained model gets right and wrong, and files of what is on it."""

import functools
import io
import json
import os
import time
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.split import SINGLE_HOST
from efficientnet_tpu.display import image_grid
from efficientnet_tpu.display.lettering import class_captions, legend
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.evaluate import EvaluatedRun, evaluate_run, evaluation_image
from efficientnet_tpu.model_inspection.confusion_matrix import SIDE, draw_confusion
from efficientnet_tpu.model_inspection.predictions import predict_split
from efficientnet_tpu.model_inspection.report_page import ErrorPicture, Report, page
from efficientnet_tpu.model_inspection.statistics import (
    ClassResult,
    Predictions,
    calibration,
    class_results,
    confusion_matrix,
    confusions,
    expected_calibration_error,
    mean_class_accuracy,
    most_confident_errors,
)
from efficientnet_tpu.model_inspection.training_curves import training_curves
from efficientnet_tpu.run.confidence_interval import wilson_interval
from efficientnet_tpu.run.reports.log_entries import LOG_JSONL, read_log
from efficientnet_tpu.storage import writable
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.write_errors import explained_write_errors
from efficientnet_tpu.texts.csv_text import csv_text

PAGE = "index.html"
NUM_ERRORS = 24  # on the page and in errors.png
MATRIX_CLASSES = 2000  # more make a matrix that no program opens: predictions.csv has everything
_TILE, _COLUMNS = 160, 6  # of errors.png


def evaluate_and_report(config: Config) -> None:
    """Evaluates as without a report, then writes one."""
    writable.check_folder(config.output.report, "report")
    evaluate_run(config, functools.partial(write_report, config))


def write_report(config: Config, run: EvaluatedRun) -> None:
    """Writes the files of the report; the page last."""
    directory = config.output.report
    predictions = predict_split(run, config)
    num_bad = int(np.count_nonzero(~np.isfinite(predictions.confidences)))
    if num_bad:
        raise UserError(
            f"--report={directory}: what the model says of {num_bad:,} of {len(predictions.labels):,} images is no "
            f"number: its training has diverged. Look at {LOG_JSONL}, and evaluate an earlier --checkpoint."
        )
    errors = _error_pictures(config, run, predictions)
    files = _files(run, predictions, errors)
    report = _report(config, run, predictions, errors, files)
    with explained_write_errors(f"--report={directory}"):
        _remove_files(directory)  # of an earlier report, some of which this one may lack
        try:
            for name, content in {**files, PAGE: page(report)}.items():
                write_atomically(os.path.join(directory, name), content)
        except (tf.errors.OpError, OSError):
            _remove_files(directory)  # a part of a report would pass for one
            raise
    ece = expected_calibration_error(report.calibration)
    print(f"mean accuracy of the classes {mean_class_accuracy(report.classes):.2%}, calibration error {ece:.2%}")
    print(f"{os.path.join(directory, PAGE)}: the report; beside it {', '.join(files)}", flush=True)
    if numbers := legend(run.label_names):
        print(numbers, flush=True)


def _remove_files(directory: str) -> None:
    for name in ALL_FILES:
        if tf.io.gfile.exists(os.path.join(directory, name)):
            tf.io.gfile.remove(os.path.join(directory, name))


def _report(
    config: Config, run: EvaluatedRun, predictions: Predictions, errors: Sequence[ErrorPicture], files: dict[str, bytes]
) -> Report:
    labels, predicted = predictions.labels, predictions.predicted
    log = read_log(os.path.join(config.run.model_dir, LOG_JSONL))
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return Report(
        title=f"{run.architecture.name}: evaluation",
        facts=[
            f"{config.run.model_dir} at step {run.step:,} ({run.checkpoint} checkpoint), "
            f"{run.architecture.resolution} x {run.architecture.resolution} pixels",
            f"{len(labels):,} {run.images} of {config.data.source}; {written}",
        ],
        label_names=run.label_names,
        results=run.results,
        classes=class_results(labels, predicted, len(run.label_names)),
        confusions=confusions(labels, predicted),
        calibration=calibration(predictions.confidences, predictions.correct),
        curves=training_curves(log.entries, len(log.damaged)),
        confusion_png=files["confusion_matrix.png"],
        errors=errors,
        num_errors=int(np.count_nonzero(~predictions.correct)),
        files=[*files],
    )


def _files(run: EvaluatedRun, predictions: Predictions, errors: Sequence[ErrorPicture]) -> dict[str, bytes]:
    """Returns the content of every file but the page."""
    labels, predicted, names = predictions.labels, predictions.predicted, run.label_names
    classes = class_results(labels, predicted, len(names))
    bins = calibration(predictions.confidences, predictions.correct)
    intervals = {
        f"top_{k}_interval": wilson_interval(run.results[f"top_{k}_accuracy"], run.results["num_images"])
        for k in (1, 5)
    }
    results = {
        **run.results,
        **intervals,
        "mean_class_accuracy": mean_class_accuracy(classes),
        "expected_calibration_error": expected_calibration_error(bins),
    }
    files = {
        "results.json": (json.dumps(results, indent=1) + "\n").encode(),
        "per_class.csv": _classes_csv(classes, names),
        "calibration.csv": _csv(vars(bins[0]), (vars(part).values() for part in bins)),
        "predictions.csv": _predictions_csv(predictions, names),
        "confusion_matrix.png": _png(draw_confusion(confusion_matrix(labels, predicted, len(names), SIDE), names)),
    }
    if len(names) <= MATRIX_CLASSES:
        matrix = confusion_matrix(labels, predicted, len(names), len(names))
        rows = ([name, *row] for name, row in zip(names, matrix.tolist(), strict=True))
        files["confusion_matrix.csv"] = _csv(("class", *names), rows)
    if errors:
        files["errors.png"] = _png(_errors_picture(errors, names))
    return files


ALL_FILES = (
    *("results.json", "per_class.csv", "calibration.csv", "predictions.csv", "confusion_matrix.png"),
    *("confusion_matrix.csv", "errors.png", PAGE),
)


def _classes_csv(classes: Sequence[ClassResult], names: Sequence[str]) -> bytes:
    rows = []
    for one in classes:
        interval = wilson_interval(one.accuracy, one.images) if one.accuracy is not None else ("", "")
        taken = (names[one.confusion.predicted], one.confusion.images) if one.confusion else ("", "")
        rows.append(
            (names[one.label], one.images, one.correct, one.predicted, one.accuracy, *interval, one.precision, *taken)
        )
    heads = ("class", "images", "correct", "predicted", "accuracy", "low", "high", "precision", "taken_for", "taken")
    return _csv(heads, rows)


def _predictions_csv(predictions: Predictions, names: Sequence[str]) -> bytes:
    rows = (
        (position, names[label], names[predicted], f"{confidence:.6g}", f"{of_label:.6g}")
        for position, (label, predicted, confidence, of_label) in enumerate(
            zip(predictions.labels, predictions.predicted, predictions.confidences, predictions.label_probabilities,
                strict=True)
        )
    )  # fmt: skip
    return _csv(("position", "class", "predicted", "confidence", "probability_of_class"), rows)


def _csv(heads: Iterable[object], rows: Iterable[Iterable[object]]) -> bytes:
    return csv_text([heads, *rows]).encode()


def _error_pictures(config: Config, run: EvaluatedRun, predictions: Predictions) -> list[ErrorPicture]:
    split, folder = run.split, config.data.data_dir.rstrip("/") + "/"
    prepare = evaluation_image(config.data, run.architecture, split.is_reduced)
    found = []
    for position in most_confident_errors(predictions, NUM_ERRORS):
        label, predicted = int(predictions.labels[position]), int(predictions.predicted[position])
        encoded, _ = split.load(next(iter(split.handles(SINGLE_HOST, None, position).take(1))))
        path = split.locate(SINGLE_HOST, None, position)
        found.append(
            ErrorPicture(
                png=_png(Image.fromarray(prepare(encoded).numpy())),
                where=f"{path.removeprefix(folder) if config.data.data_dir else path} (position {position})",
                label=run.label_names[label],
                label_probability=float(predictions.label_probabilities[position]),
                predicted=run.label_names[predicted],
                confidence=float(predictions.confidences[position]),
            )
        )
    return found


def _errors_picture(errors: Sequence[ErrorPicture], label_names: Sequence[str]) -> Image.Image:
    tiles = []
    captions = dict(zip(label_names, class_captions(label_names), strict=True))
    for error in errors:
        pixels = np.asarray(Image.open(io.BytesIO(error.png)))
        caption = (
            f"{captions[error.predicted]} {error.confidence:.0%}",
            f"is {captions[error.label]}",
            os.path.basename(error.where),
        )
        tiles.append(image_grid.Tile(pixels, caption))
    columns = min(_COLUMNS, len(tiles))
    width = columns * (_TILE + image_grid.MARGIN) + image_grid.MARGIN
    title = image_grid.text_lines("Most confident errors", ["predicted, with its probability; the true class"], width)
    return image_grid.stacked([title, image_grid.grid(tiles, columns, _TILE)])


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
