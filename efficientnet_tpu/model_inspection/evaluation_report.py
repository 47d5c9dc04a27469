"""`main.py report RUN`, and `evaluate --report=DIR`: a page on a trained model, and files of what is on it.

Both evaluate: figures, mistakes and maps on the page are of one pass over the images by one checkpoint.
"""

import io
import json
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.display import image_grid
from efficientnet_tpu.display.lettering import class_captions, legend
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.evaluate import EvaluatedRun, measure_run
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.model_inspection.confusion_matrix import SIDE, draw_confusion
from efficientnet_tpu.model_inspection.predictions import predict_split
from efficientnet_tpu.model_inspection.report.contents import Report, ShownImage
from efficientnet_tpu.model_inspection.report.page import page
from efficientnet_tpu.model_inspection.report.results import MATRIX_CLASSES
from efficientnet_tpu.model_inspection.report.run_facts import (
    data_facts,
    environment_rows,
    evaluations_of,
    option_rows,
    run_name,
    summarize_split,
)
from efficientnet_tpu.model_inspection.report.shown_images import ShownImages, class_counts, image_places
from efficientnet_tpu.model_inspection.statistics import (
    ClassResult,
    Predictions,
    calibration,
    class_results,
    confusion_matrix,
    confusions,
    expected_calibration_error,
    mean_class_accuracy,
    mean_f1,
    most_confident_errors,
    ordinary_images,
)
from efficientnet_tpu.model_inspection.training_curves import training_curves
from efficientnet_tpu.run import run_record
from efficientnet_tpu.run.confidence_interval import wilson_interval
from efficientnet_tpu.run.reports.log_entries import LOG_JSONL, read_log
from efficientnet_tpu.run.reports.report_folder import PAGE, PREDICTIONS_CSV, report_folder
from efficientnet_tpu.storage import writable
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.write_errors import explained_write_errors
from efficientnet_tpu.texts.csv_text import csv_text

NUM_ERRORS = NUM_ORDINARY = 24  # on the page, and in errors.png and ordinary.png
NUM_MAPS = 12
CSV_MATRIX_CLASSES = 2000  # more make a matrix that no program opens: predictions.csv has everything
_TILE, _COLUMNS = 190, 6  # of errors.png and ordinary.png


def evaluate_and_report(config: Config) -> None:
    """Evaluates a run and writes a report; needs a single host."""
    folder, named = report_folder(config)
    writable.check_folder(folder, named)
    strategy = distribution.connect(config.hardware)
    found: list[Predictions] = []

    def measure(*arguments: Any) -> dict[str, float]:
        predictions, results = predict_split(*arguments)
        found.append(predictions)
        return results

    with distribution.explained_loss_of_host(strategy):
        if distribution.num_hosts(strategy) > 1:
            raise UserError(f"{named}: a report needs all predictions on one host. Evaluate without TF_CONFIG.")
        run = measure_run(strategy, config, measure)
        write_report(config, run, *found)


def write_report(config: Config, run: EvaluatedRun, predictions: Predictions) -> None:
    """Writes the files of the report; the page last."""
    directory, named = report_folder(config)
    num_bad = int(np.count_nonzero(~np.isfinite(predictions.confidences)))
    if num_bad:
        raise UserError(
            f"{named}: what the model says of {num_bad:,} of {len(predictions.labels):,} images is no "
            f"number: its training has diverged. Look at {LOG_JSONL}, and evaluate an earlier --checkpoint."
        )
    images = ShownImages(config, run, predictions)
    errors = images.show(most_confident_errors(predictions, NUM_ERRORS))
    ordinary = images.show(ordinary_images(len(predictions.labels), NUM_ORDINARY))
    maps, no_maps = images.show_maps(_positions_of_maps(predictions))
    files = _files(run, predictions, errors, ordinary)
    shown = {"errors": errors, "ordinary": ordinary, "maps": maps, "no_maps": no_maps}
    report = _report(config, run, predictions, files, shown)
    with explained_write_errors(named):
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


def _positions_of_maps(predictions: Predictions) -> list[int]:
    """Returns half mistakes, as far as there are so many, and half images that were recognized."""
    errors = most_confident_errors(predictions, NUM_MAPS // 2)
    right = np.flatnonzero(predictions.correct)
    return errors + [int(right[number]) for number in ordinary_images(len(right), NUM_MAPS - len(errors))]


def _report(
    config: Config,
    run: EvaluatedRun,
    predictions: Predictions,
    files: dict[str, bytes],
    shown: dict[str, Any],
) -> Report:
    labels, predicted, names = predictions.labels, predictions.predicted, run.label_names
    record = run_record.load(config.run.model_dir)
    log = read_log(os.path.join(config.run.model_dir, LOG_JSONL))
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    counts = {name: class_counts(split, len(names)) for name, split in run.data.splits.items()}
    trained_on = counts.get("train") if run.is_own else None
    chosen, defaults = option_rows(record.config)
    size = run.architecture.resolution
    return Report(
        title=f"{run_name(config.run.model_dir)}: report",
        facts=[
            f"{run.architecture.name}, {size} x {size} pixels, {len(names):,} classes",
            f"{config.run.model_dir} at step {run.step:,} ({run.checkpoint} checkpoint); {written}",
        ],
        measured=f"Measured on {run.measured}: {run.images} of",
        source=config.data.source,
        label_names=names,
        results=run.results,
        classes=class_results(labels, predicted, len(names)),
        training_images=None if trained_on is None else trained_on.tolist(),
        confusions=confusions(labels, predicted),
        matrix=confusion_matrix(labels, predicted, len(names), len(names)) if len(names) <= MATRIX_CLASSES else None,
        confusion_png=files["confusion_matrix.png"],
        calibration=calibration(predictions.confidences, predictions.correct),
        curves=training_curves(log.entries, len(log.damaged)),
        evaluations=evaluations_of(log.entries),
        num_errors=int(np.count_nonzero(~predictions.correct)),
        splits=[
            summarize_split(name, split.num_images, counts[name], names) for name, split in run.data.splits.items()
        ],
        data_facts=data_facts(record, config, run.data.fingerprint, run.is_own),
        chosen=chosen,
        defaults=defaults,
        environment=environment_rows(record, distribution.describe(run.strategy), written),
        files=[*files],
        **shown,
    )


def _files(
    run: EvaluatedRun, predictions: Predictions, errors: Sequence[ShownImage], ordinary: Sequence[ShownImage]
) -> dict[str, bytes]:
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
        "mean_f1": mean_f1(classes),
        "expected_calibration_error": expected_calibration_error(bins),
    }
    files = {
        "results.json": (json.dumps(results, indent=1) + "\n").encode(),
        "per_class.csv": _classes_csv(classes, names),
        "calibration.csv": _csv(vars(bins[0]), (vars(part).values() for part in bins)),
        PREDICTIONS_CSV: _predictions_csv(predictions, names, image_places(run.split)),
        "confusion_matrix.png": _png(draw_confusion(confusion_matrix(labels, predicted, len(names), SIDE), names)),
    }
    if len(names) <= CSV_MATRIX_CLASSES:
        matrix = confusion_matrix(labels, predicted, len(names), len(names))
        rows = ([name, *row] for name, row in zip(names, matrix.tolist(), strict=True))
        files["confusion_matrix.csv"] = _csv(("class", *names), rows)
    if errors:
        files["errors.png"] = _png(_sheet("Most confident errors", errors, names))
    files["ordinary.png"] = _png(_sheet("Ordinary images", ordinary, names))
    return files


ALL_FILES = (
    *("results.json", "per_class.csv", "calibration.csv", PREDICTIONS_CSV, "confusion_matrix.png"),
    *("confusion_matrix.csv", "errors.png", "ordinary.png", PAGE),
)


def _classes_csv(classes: Sequence[ClassResult], names: Sequence[str]) -> bytes:
    rows = []
    for one in classes:
        low, high = wilson_interval(one.accuracy, one.images) if one.accuracy is not None else ("", "")
        taken_for, taken = (names[one.confusion.predicted], one.confusion.images) if one.confusion else ("", "")
        figures = (one.images, one.correct, one.predicted, one.accuracy, low, high, one.precision, one.f1)
        rows.append((names[one.label], *figures, taken_for, taken))
    heads = ("class", "images", "correct", "predicted", "accuracy", "low", "high", "precision", "f1")
    return _csv((*heads, "taken_for", "taken"), rows)


def _predictions_csv(predictions: Predictions, names: Sequence[str], places: Sequence[str]) -> bytes:
    rows = (
        (position, names[label], names[predicted], f"{confidence:.6g}", f"{of_label:.6g}", place)
        for position, (label, predicted, confidence, of_label, place) in enumerate(
            zip(predictions.labels, predictions.predicted, predictions.confidences, predictions.label_probabilities,
                places, strict=True)
        )
    )  # fmt: skip
    return _csv(("position", "class", "predicted", "confidence", "probability_of_class", "path"), rows)


def _csv(heads: Iterable[object], rows: Iterable[Iterable[object]]) -> bytes:
    return csv_text([heads, *rows]).encode()


def _sheet(title: str, images: Sequence[ShownImage], label_names: Sequence[str]) -> Image.Image:
    """Draws images as tiles with what was predicted, what is true, and their files."""
    tiles = []
    captions = dict(zip(label_names, class_captions(label_names), strict=True))
    for image in images:
        pixels = np.asarray(Image.open(io.BytesIO(image.picture)))
        truth = "right" if image.is_right else f"is {captions[image.label]}"
        caption = (f"{captions[image.predicted]} {image.confidence:.0%}", truth, os.path.basename(image.where))
        tiles.append(image_grid.Tile(pixels, caption))
    columns = min(_COLUMNS, len(tiles))
    width = columns * (_TILE + image_grid.MARGIN) + image_grid.MARGIN
    heading = image_grid.text_lines(title, ["predicted, with its probability; the true class; the file"], width)
    return image_grid.stacked([heading, image_grid.grid(tiles, columns, _TILE)])


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
