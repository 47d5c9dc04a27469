"""A run as `main.py compare` reads it: from its files, without TensorFlow unless they are on gs://."""

import calendar
import csv
import io
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from efficientnet_tpu.config.config import run_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run.early_stopping import watched_split
from efficientnet_tpu.run.reports.log_entries import LOG_JSONL, read_log
from efficientnet_tpu.run.reports.report_folder import PREDICTIONS_CSV, folder_in
from efficientnet_tpu.run.run_record import IMPORTED, RunRecord, load
from efficientnet_tpu.storage import presence
from efficientnet_tpu.storage.text_file import read_text
from efficientnet_tpu.texts.printable import shown


@dataclass(frozen=True)
class Predictions:
    """Predictions of a run for the images that it was evaluated on, in stored order. All by name of a class."""

    labels: tuple[str, ...]
    predicted: tuple[str, ...]

    @property
    def correct(self) -> list[bool]:
        """Whether each is right."""
        return [one == other for one, other in zip(self.labels, self.predicted, strict=True)]


@dataclass(frozen=True)
class ComparedRun:
    """A run beside others.

    name: what tells its directory from those of the others. entries: of its log. best: its evaluation of highest top-1
    accuracy on the images that choose its checkpoint, of equal ones the latest. predictions: None where none are kept.
    """

    name: str
    record: RunRecord
    entries: Sequence[Mapping[str, Any]]
    best: Mapping[str, Any]
    predictions: Predictions | None

    @property
    def facts(self) -> dict[str, str]:
        """Returns what may differ between runs, by name: options, images, classes, versions."""
        last = self.record.starts[-1] if self.record.starts else {}
        options = {f"--{name}": value for name, value in run_options(self.record.config).items() if name != "model_dir"}
        others = {
            "images (fingerprint)": self.record.data_fingerprint,
            "training images": self.record.num_train_images,
            "classes": len(self.record.label_names),
            "revision": last.get("git_revision"),
            "python": last.get("python"),
            **last.get("versions", {}),
        }
        facts = {**options, **others}
        return {name: "" if value is None else str(value) for name, value in facts.items()}

    @property
    def hours(self) -> float:
        """The hours that its programs ran, from each start to the last line of the log before the next one."""
        starts = sorted(_seconds(start["time"]) for start in self.record.starts if "time" in start)
        times = [entry["time"] for entry in self.entries if "time" in entry]
        total = 0.0
        for start, following in zip(starts, [*starts[1:], float("inf")], strict=True):
            own = [one for one in times if start <= one < following]
            total += max(own) - start if own else 0.0
        return total / 3600

    @property
    def images_per_second(self) -> float:
        """The median of what its log says, 0 without any."""
        speeds = sorted(entry["images_per_second"] for entry in self.entries if "images_per_second" in entry)
        return speeds[len(speeds) // 2] if speeds else 0.0


def load_run(model_dir: str, name: str) -> ComparedRun:
    """Reads a run, which is to be called `name`. Raises UserError where there is none, or none that was evaluated."""
    record = load(model_dir)
    if record.data_fingerprint == IMPORTED:
        raise UserError(f"{model_dir}: holds imported weights and no training. Name a run that was trained.")
    log = read_log(os.path.join(model_dir, LOG_JSONL))
    if log.damaged:
        print(log.damage(os.path.join(model_dir, LOG_JSONL)), flush=True)
    watched = watched_split(record.config)
    evaluations = [entry for entry in log.entries if entry["kind"] == watched]
    if not evaluations:
        raise UserError(f"{model_dir}: has not been evaluated yet. Let it train to its first evaluation.")
    best = max(evaluations, key=lambda entry: (entry["top_1_accuracy"], entry["step"]))
    return ComparedRun(
        name, record, log.entries, best, _read_predictions(os.path.join(folder_in(model_dir), PREDICTIONS_CSV))
    )


def _read_predictions(path: str) -> Predictions | None:
    """Returns what a report keeps, None where there is none. Raises UserError for a file that is something else."""
    if not presence.exists(path, path):
        return None
    rows = list(csv.DictReader(io.StringIO(read_text(path, path))))
    try:
        return Predictions(tuple(row["class"] for row in rows), tuple(row["predicted"] for row in rows))
    except KeyError as error:
        raise UserError(f"{path}: has no column {shown(error.args[0])}. `report` writes it.") from error


def _seconds(text: str) -> float:
    """Returns a time of run.json in seconds since 1970."""
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
