"""Writes a run's log.jsonl and TensorBoard files while it trains, and tells a service of its numbers."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping

import tensorflow as tf

from efficientnet_tpu.data.unreadable_log import UNREADABLE_JSONL
from efficientnet_tpu.hardware.output_streams import lost_output
from efficientnet_tpu.run.reports.log_entries import LOG_JSONL, OUTPUT
from efficientnet_tpu.run.reports.run_log import LogFile
from efficientnet_tpu.run.tracking.tensorboard import FOLDER, TensorBoard
from efficientnet_tpu.run.tracking.trackers import Tracker
from efficientnet_tpu.storage import durable
from efficientnet_tpu.storage.write_errors import explained_write_errors


class RunLogs:
    """The logs of a run in its model_dir. A disk that is full costs a warning: the lines are written later."""

    def __init__(self, model_dir: str, kinds: Iterable[str], tracker: Tracker | None = None) -> None:
        """kinds: of entries that will come. tracker: is told of them too. Raises UserError where nothing can be
        written.
        """
        self._model_dir = model_dir
        self._log = LogFile(os.path.join(model_dir, LOG_JSONL))
        self._lost_output: dict[str, str] = {}
        self._tracker = tracker
        with explained_write_errors(f"--model_dir={model_dir}"):
            self.tensorboard = TensorBoard(model_dir, kinds)

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
            self.tensorboard.scalars(kind, step, values)
        except (tf.errors.OpError, OSError) as error:
            self._warn(error)
        if self._tracker:
            self._call_tracker(lambda tracker: tracker.log(step, {f"{kind}/{name}": values[name] for name in values}))

    def finish(self, is_complete: bool) -> None:
        """Tells the service that the run, or this part of it, has ended."""
        if self._tracker:
            self._call_tracker(lambda tracker: tracker.finish(is_complete))

    def _call_tracker(self, call: Callable[[Tracker], None]) -> None:
        """Calls the service; what fails there costs a warning, and no training."""
        try:
            call(self._tracker)
        except Exception as error:  # noqa: BLE001 - whatever its client raises
            reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
            print(f"warning: --log_to: {reason[:300]}. Training goes on without it.", flush=True)
            self._tracker = None

    def sync(self) -> None:
        """Brings what has been logged to the disk; the lines between two saves would be made again."""
        try:
            for name in (LOG_JSONL, UNREADABLE_JSONL):
                with contextlib.suppress(FileNotFoundError):
                    durable.sync_file(os.path.join(self._model_dir, name))
            durable.sync_tree(os.path.join(self._model_dir, FOLDER))
            durable.sync_directory(self._model_dir)
        except OSError as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        reason = getattr(error, "message", str(error))
        print(f"warning: {self._log.path}: cannot be written: {reason}. Training goes on.", flush=True)
