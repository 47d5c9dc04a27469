"""The progress of a run: printed lines, log.jsonl, TensorBoard."""

import contextlib
import os
import time
from collections.abc import Mapping, Sequence

import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.unreadable_log import UNREADABLE_JSONL
from efficientnet_tpu.display.terminal import duration
from efficientnet_tpu.hardware.output_streams import lost_output
from efficientnet_tpu.run.early_stopping import EarlyStopping, describe_delivery, watched_split
from efficientnet_tpu.run.log_entries import LOG_JSONL, OUTPUT, summary
from efficientnet_tpu.run.outputs.run_files import RunFiles
from efficientnet_tpu.run.run_log import LogFile
from efficientnet_tpu.storage import durable
from efficientnet_tpu.storage.write_errors import explained_write_errors

# A line about this often; more would hide the evaluations, less would leave one guessing.
SECONDS_PER_LINE = 10.0


class Progress:
    """The clock of a training run, and its reports."""

    def __init__(
        self,
        config: Config,
        step: int,
        early_stopping: EarlyStopping,
        evaluation_steps: Sequence[int],
        steps_per_epoch: float,
        files: RunFiles | None,
    ):
        """step, early_stopping: where the run continues. evaluation_steps: where evaluations are still to come, the
        last at its end. files: of the chief; None on other hosts, which would report the same.
        """
        self._config = config
        self._files = files
        self._evaluated = watched_split(config)
        self._model_dir = config.run.model_dir
        self._log = LogFile(os.path.join(self._model_dir, LOG_JSONL))
        self._lost_output: dict[str, str] = {}
        self._writers = {}
        if files:
            with explained_write_errors(f"--model_dir={config.run.model_dir}"):
                damage = self._log.drop_after(step, early_stopping.evaluated_step)
            if damage:
                print(damage, flush=True)
            self._writers = {
                name: tf.summary.create_file_writer(os.path.join(config.run.model_dir, "tensorboard", name))
                for name in sorted({"train", self._evaluated, "validation"})
            }
            files.on_start()
        self._evaluation_steps = evaluation_steps
        self._total_steps = evaluation_steps[-1]
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = config.train.batch_size
        self._max_steps = config.hardware.steps_per_loop
        self._spent = {"starting": 0.0, "training": 0.0, "waiting for data": 0.0, "evaluating and saving": 0.0}
        self._seconds_per_step: float | None = None
        self._seconds_per_evaluation: float | None = None
        self._loops = 0

    def steps_to_next_line(self) -> int:
        """Returns the steps of the next compiled call: 1 to compile, 1 to measure, then as many as take ten seconds."""
        if self._loops < 2 or not self._seconds_per_step:
            return 1
        return max(1, min(self._max_steps, round(SECONDS_PER_LINE / self._seconds_per_step)))

    def on_steps(self, step: int, num_steps: int, seconds: float, waited: float, values: Mapping[str, float]) -> None:
        """Reports `num_steps` steps up to `step` that took `seconds`, `waited` of them waiting for data.

        values: loss, top_1_accuracy (0..1), learning_rate.
        """
        self._loops += 1
        waited = min(max(waited, 0.0), seconds)  # measured by the time of day, which may have been set
        if self._loops == 1:
            self._spent["starting"] = seconds
            self._print(f"first step after {seconds:.0f} s: compiling, and filling the input pipeline")
            return
        self._spent["training"] += seconds - waited
        self._spent["waiting for data"] += waited
        # The newest measurement weighs most: steps differ little, but the machine's other load comes and goes.
        measured, before = seconds / num_steps, self._seconds_per_step
        self._seconds_per_step = measured if before is None or self._loops < 4 else before + 0.3 * (measured - before)
        images_per_second = num_steps * self._batch_size / seconds
        values = {**values, "images_per_second": images_per_second, "data_wait_share": waited / seconds}
        self._record("train", step, values)
        self._print(
            f"step {step:>{len(str(self._total_steps))}}/{self._total_steps}  epoch {step / self._steps_per_epoch:.2f}"
            f"  loss {values['loss']:.4f}  top-1 {values['top_1_accuracy']:.1%}  lr {values['learning_rate']:.5f}"
            f"  {images_per_second:,.0f} images/s  waiting for data {waited / seconds:.0%}  {self._time_left(step)}"
        )

    def log_evaluation(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the evaluator's results at `step`. The log is on the disk then."""
        self._record(self._evaluated, step, values)
        self._sync()

    def on_evaluation(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Prints an evaluation at `step` that took `seconds` and has been saved.

        values: the evaluator's results; those beginning with train_ only go to the log.
        """
        self._seconds_per_evaluation = seconds
        self._spent["evaluating and saving"] += seconds
        self._print(f"-- {self._evaluated}  epoch {step / self._steps_per_epoch:.2f}  {summary(values)}")
        if self._files:
            self._print(f"   {self._files.measurement.describe(values['num_images'])}; {duration(seconds)}")

    def on_save(self, step: int, seconds: float, best: EarlyStopping, announce: bool) -> None:
        """Counts the seconds of a checkpoint. best: the evaluations that it holds. announce: print a line, since no
        line of an evaluation says so.
        """
        started = time.monotonic()
        if announce:
            self._sync()
            self._print(f"saved at step {step}  ({seconds:.0f} s)")
        if self._files:
            self._files.on_save(best)
        self._spent["evaluating and saving"] += seconds + time.monotonic() - started

    def on_validation_of_best(self, values: Mapping[str, float], best: EarlyStopping) -> None:
        """Reports the validation of the checkpoint that was best on the minival images."""
        self._record("validation", best.best_step, values)
        self._sync()
        self._print(f"validation of the best checkpoint, step {best.best_step}: {summary(values)}")
        if self._files:
            self._files.on_save(best, is_end=True)

    def on_end(self, values: Mapping[str, float], early_stopping: EarlyStopping, is_early: bool) -> None:
        """Reports the last evaluation's results, the best of them, and where the time went."""
        spent = ", ".join(f"{duration(seconds)} {what}" for what, seconds in self._spent.items())
        best = early_stopping
        ending = f"stopped early, {best.evaluations_since_best} evaluations after the best" if is_early else "finished"
        self._print(
            f"{ending}: {summary(values)}; best checkpoint: top-1 {best.best_accuracy:.2%}, step {best.best_step}"
        )
        for line in (*describe_delivery(self._config, best), f"time: {spent}"):
            self._print(line)
        if self._files:
            self._files.on_save(best, is_end=True)

    def _time_left(self, step: int) -> str:
        """Returns the time to the end of the run; it includes evaluations once one has been measured."""
        evaluations = sum(1 for evaluation_step in self._evaluation_steps if evaluation_step >= step)
        training = (self._total_steps - step) * (self._seconds_per_step or 0.0)
        if self._seconds_per_evaluation is None:
            return f"{duration(training)} to go, and {evaluations} evaluation{'s' * (evaluations > 1)}"
        return f"{duration(training + evaluations * self._seconds_per_evaluation)} to go"

    def _print(self, line: str) -> None:
        if self._files:
            print(line, flush=True)

    def _record(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Writes an entry to log.jsonl and TensorBoard. If the disk is full, the lines are kept and written later."""
        if not self._files:
            return
        where = {"step": step, "epoch": step / self._steps_per_epoch, "time": time.time()}
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

    def _sync(self) -> None:
        """Brings what has been logged to the disk; the lines between two saves would be made again."""
        if not self._files:
            return
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
