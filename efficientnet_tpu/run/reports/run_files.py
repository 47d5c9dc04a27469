"""The files about a run that people and other programs read: rerun.flags, log.csv, results.json, curves.png.

All are made of run.json and log.jsonl, so that none is missed where one cannot be written.
"""

import os
import shlex
import time

from efficientnet_tpu.installation import program
from efficientnet_tpu.run.early_stopping import EarlyStopping
from efficientnet_tpu.run.reports.curves_picture import CURVES_PNG, curves_png
from efficientnet_tpu.run.reports.log_csv import LOG_CSV, log_csv
from efficientnet_tpu.run.reports.log_entries import LOG_JSONL, read_log
from efficientnet_tpu.run.reports.measurement import Measurement
from efficientnet_tpu.run.reports.rerun_flags import RERUN_FLAGS, rerun_flags
from efficientnet_tpu.run.reports.results_json import RESULTS_JSON, results_json
from efficientnet_tpu.run.run_record import RunRecord
from efficientnet_tpu.storage import directory_lock
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.write_errors import error_kinds, write_error_reason

# The files may take this share of a run's time; the last ones are written in any case.
MOST_TIME = 0.01


def describe_end(model_dir: str) -> list[str]:
    """Returns lines on what a run has left, and on what to do with it."""
    run, start = shlex.quote(f"--model_dir={model_dir}"), program()
    return [
        f"{model_dir} has {CURVES_PNG}, {RESULTS_JSON}, {LOG_CSV}; {RERUN_FLAGS} repeats the run",
        f"next: {start} report {shlex.quote(model_dir)}",
        f"      {start} predict {run} IMAGE",
        f"      {start} export {run} --output_dir=DIR",
    ]


class RunFiles:
    """The files of a run, written when it begins, when it has saved, and when it ends."""

    def __init__(self, record: RunRecord, title: str, measurement: Measurement) -> None:
        """title: of the curves. measurement: of the evaluations during training."""
        self._record = record
        self._title = title
        self.measurement = measurement
        self._written_at = time.monotonic()
        self._seconds = 0.0  # that the files took when they were last written

    def on_start(self) -> None:
        """Writes rerun.flags."""
        self._write({RERUN_FLAGS: rerun_flags(self._record.config)})

    def on_save(self, best: EarlyStopping, is_end: bool = False) -> None:
        """Writes the files of what the log holds; not at the end, only where that costs little.

        best: the evaluations so far.
        """
        started = time.monotonic()
        if not is_end and self._seconds > MOST_TIME * (started - self._written_at):
            return
        config = self._record.config
        entries = read_log(os.path.join(config.run.model_dir, LOG_JSONL)).entries
        versions = self._record.starts[-1]["versions"] if self._record.starts else {}
        self._write(
            {
                LOG_CSV: log_csv(entries),
                RESULTS_JSON: results_json(entries, config, best, self.measurement, versions),
                CURVES_PNG: curves_png(entries, self._title),
            }
        )
        self._written_at = time.monotonic()
        self._seconds = self._written_at - started

    def _write(self, files: dict[str, str | bytes]) -> None:
        model_dir = self._record.config.run.model_dir
        try:
            directory_lock.require_ours(model_dir)
            for name, content in files.items():
                write_atomically(os.path.join(model_dir, name), content)
        except error_kinds() as error:
            reason = write_error_reason(error)
            print(f"warning: {model_dir}: {', '.join(files)} cannot be written: {reason}.", flush=True)
