"""The log of a run, log.jsonl: a line of JSON for every report on training, for every evaluation, for output that is
lost. Whatever reads it takes what is whole.
"""

import os
from collections.abc import Mapping

import tensorflow as tf

from efficientnet_tpu.run.reports.log_entries import OUTPUT, read_log
from efficientnet_tpu.storage import directory_lock, json_lines
from efficientnet_tpu.storage.atomic_write import write_atomically


class LogFile:
    """A file of JSON lines that survives a full disk and interrupted runs. Local or gs://."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._unwritten: list[str] = []

    def append(self, entry: Mapping[str, object]) -> None:
        """Writes an entry, after those that could not be written before. Raises OpError or OSError if it cannot, and
        UserError if the directory is another run's.
        """
        self._unwritten.append(json_lines.line(entry))
        directory_lock.require_ours(os.path.dirname(self.path))
        if len(self._unwritten) > 1:  # the attempt that failed may have left a part of a line
            write_atomically(self.path, "".join([*map(json_lines.line, read_log(self.path).entries), *self._unwritten]))
        else:
            with tf.io.gfile.GFile(self.path, "a") as file:
                file.write(self._unwritten[0])
        self._unwritten = []

    def drop_after(self, step: int, evaluated_step: int) -> str:
        """Drops the lines of steps and evaluations that an interrupted run has not saved: it will make them again.

        Returns a line about those that were damaged, "" without any.
        """
        if not tf.io.gfile.exists(self.path):
            return ""
        directory_lock.require_ours(os.path.dirname(self.path))
        log = read_log(self.path)
        last_step = {"train": step, OUTPUT: float("inf")}
        kept = [entry for entry in log.entries if entry["step"] <= last_step.get(entry["kind"], evaluated_step)]
        write_atomically(self.path, "".join(map(json_lines.line, kept)))
        return log.damage(self.path)
