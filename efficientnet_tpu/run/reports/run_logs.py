"""Writes a run's log.jsonl and TensorBoard files while it trains."""

import contextlib
import os
import time
from collections.abc import Iterable, Mapping

import tensorflow as tf

from efficientnet_tpu.data.unreadable_log import UNREADABLE_JSONL
from efficientnet_tpu.hardware.output_streams import lost_output
from efficientnet_tpu.run.reports.log_entries import LOG_JSONL, OUTPUT
from efficientnet_tpu.run.reports.run_log import LogFile
from efficientnet_tpu.storage import durable
from efficientnet_tpu.storage.write_errors import explained_write_errors


class RunLogs:
    """The logs of a run in its model_dir. A disk that is full costs a warning: the lines are written later."""

    def __init__(self, model_dir: str, kinds: Iterable[str]) -> None:
        """kinds: of entries that will come. Raises UserError where nothing can be written."""
        self._model_dir = model_dir
        self._log = LogFile(os.path.join(model_dir, LOG_JSONL))
        self._lost_output: dict[str, str] = {}
        with explained_write_errors(f"--model_dir={model_dir}"):
            self._writers = {
                name: tf.summary.create_file_writer(os.path.join(model_dir, "tensorboard", name))
                for name in sorted(set(kinds))
            }

    def drop_after(self, step: int, evaluated_step: int) -> str:
        """Drops the lines that an interrupted run has not saved; see `LogFile.drop_after`."""
        with explained_write_errors(f"--model_dir={self._model_dir}"):
            return self._log.drop_after(step, evaluated_step)

    def append(self, kind: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Writes an entry to log.jsonl and TensorBoard."""
        where = {"step": step, "epoch": epoch, "time": time.time()}
        try:
            self._log.append({"kind": kind, **where, **values})
            if lost_output() != self._lost_output:  # of all that was to be printed, this line will be found
                self._lost_output = lost_output()
                lost = ", ".join(f"{name}: {reason}" for name, reason in self._lost_output.items())
                self._log.append({"kind": OUTPUT, **where, "lost": lost})
            with self._writers[kind].as_default(step=step):
                for name, value in values.items():
                    tf.summary.scalar(name, value)
            self._writers[kind].flush()
        except (tf.errors.OpError, OSError) as error:
            self._warn(error)

    def sync(self) -> None:
        """Brings what has been logged to the disk; the lines between two saves would be made again."""
        try:
            for name in (LOG_JSONL, UNREADABLE_JSONL):
                with contextlib.suppress(FileNotFoundError):
                    durable.sync_file(os.path.join(self._model_dir, name))
            durable.sync_tree(os.path.join(self._model_dir, "tensorboard"))
            durable.sync_directory(self._model_dir)
        except OSError as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        reason = getattr(error, "message", str(error))
        print(f"warning: {self._log.path}: cannot be written: {reason}. Training goes on.", flush=True)
