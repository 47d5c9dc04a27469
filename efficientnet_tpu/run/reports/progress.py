"""The progress of a run: what is printed, and what is logged, when its steps, evaluations and saves come in."""

import contextlib
import os
import shlex
import time
from collections.abc import Iterator, Mapping

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.display.live_display import is_live_terminal, live_display
from efficientnet_tpu.display.terminal import duration
from efficientnet_tpu.installation import program
from efficientnet_tpu.run.early_stopping import EarlyStopping, describe_delivery, watched_split
from efficientnet_tpu.run.reports.course import Course
from efficientnet_tpu.run.reports.log_entries import summary
from efficientnet_tpu.run.reports.rerun_flags import RERUN_FLAGS, given_options
from efficientnet_tpu.run.reports.run_files import RunFiles, describe_end
from efficientnet_tpu.run.reports.run_logs import RunLogs
from efficientnet_tpu.run.reports.run_panel import RunPanel
from efficientnet_tpu.run.tracking.tensorboard import TensorBoard
from efficientnet_tpu.run.tracking.trackers import open_tracker

# A line about this often; more would hide the evaluations, less would leave one guessing.
SECONDS_PER_LINE = 10.0
# Steps that wait for images this share of their time are said to, once they have been measured for so long.
INPUT_BOUND, SECONDS_TO_TELL = 0.2, 30.0


class Progress:
    """The reports of a training run."""

    def __init__(
        self, config: Config, num_classes: int, course: Course, early_stopping: EarlyStopping, files: RunFiles | None
    ) -> None:
        """course, early_stopping: where the run continues. files: of the chief; None on other hosts, which would report
        the same.
        """
        self._config = config
        self._course = course
        self._files = files
        self._panel = RunPanel(course)
        self._num_classes = num_classes
        self._evaluated = watched_split(config)
        self._model_dir = config.run.model_dir
        self._says_steps = not config.output.quiet
        self._has_said_input_bound = False
        if files:
            kinds, service = ("train", self._evaluated, "validation"), config.output.log_to
            tracker = open_tracker(service, self._model_dir, given_options(config)) if service != "none" else None
            self._logs = RunLogs(self._model_dir, kinds, tracker)
            if damage := self._logs.drop_after(course.step, early_stopping.evaluated_step):
                print(damage, flush=True)
            files.on_start()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the panel in this context where stdout is a terminal; what is printed scrolls above it.

        At its end the service of --log_to is told whether the run is complete.
        """
        output = self._config.output
        if not self._files:
            yield
            return
        is_complete = False
        try:
            if output.quiet or output.verbose or not is_live_terminal():
                yield
            else:
                self._says_steps = False
                with live_display(self._panel.render):
                    yield
            is_complete = True
        finally:
            self._logs.finish(is_complete)

    @property
    def tensorboard(self) -> TensorBoard | None:
        """The files for TensorBoard; None on hosts other than the chief."""
        return self._logs.tensorboard if self._files else None

    def steps_to_next_line(self) -> int:
        """Returns the steps of the next compiled call: 1 to compile, 1 to measure, then as many as take ten seconds."""
        course = self._course
        if course.calls < 2 or not course.seconds_per_step:
            return 1
        return max(1, min(self._config.hardware.steps_per_loop, round(SECONDS_PER_LINE / course.seconds_per_step)))

    def on_call(self, num_steps: int) -> None:
        """Notes that a compiled call of `num_steps` steps begins."""
        if not self._course.calls and self._says_steps:
            self._print("compiling, and filling the input pipeline ...")
        self._panel.on_call(num_steps)

    def on_saving(self) -> None:
        """Notes that a checkpoint is being written."""
        self._panel.on_saving()

    def on_steps(self, step: int, num_steps: int, seconds: float, waited: float, values: Mapping[str, float]) -> None:
        """Reports `num_steps` steps up to `step` that took `seconds`, `waited` of them waiting for data.

        values: loss, top_1_accuracy (0..1), learning_rate.
        """
        course = self._course
        waited = min(max(waited, 0.0), seconds)  # measured by the time of day, which may have been set
        course.on_steps(step, num_steps, seconds, waited)
        if course.calls == 1:
            if self._says_steps:
                self._print(f"first step after {seconds:.0f} s")
            return
        images_per_second = num_steps * course.batch_size / seconds
        values = {**values, "images_per_second": images_per_second, "data_wait_share": waited / seconds}
        self._log("train", step, values)
        self._panel.on_steps(values)
        if self._says_steps:
            self._print(
                f"step {step:>{len(str(course.total_steps))}}/{course.total_steps}  epoch {course.epoch:.2f}"
                f"  loss {values['loss']:.4f}  top-1 {values['top_1_accuracy']:.1%}  lr {values['learning_rate']:.5f}"
                f"  {images_per_second:,.0f} images/s  waiting for data {waited / seconds:.0%}  {course.time_left()}"
            )
        self._say_if_input_bound()

    def _say_if_input_bound(self) -> None:
        """Prints, once, that steps wait for images, when the run is long enough to tell."""
        course = self._course
        measured = course.spent["training"] + course.spent["waiting for data"]
        if self._has_said_input_bound or measured < SECONDS_TO_TELL or course.wait_share < INPUT_BOUND:
            return
        self._has_said_input_bound = True
        command = shlex.quote(f"--flagfile={os.path.join(self._model_dir, RERUN_FLAGS)}")
        self._print(
            f"steps wait for images {course.wait_share:.0%} of their time: `{program()} benchmark input {command}` "
            "says which stage takes it and what helps"
        )

    def log_evaluation(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the evaluator's results at `step`. The log is on the disk then."""
        self._log(self._evaluated, step, values)
        self._sync()

    def on_evaluation(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Prints an evaluation at `step` that took `seconds` and has been saved.

        values: the evaluator's results; those beginning with train_ only go to the log.
        """
        self._course.on_evaluation(seconds)
        line = (
            f"{self._evaluated}  epoch {step / self._course.steps_per_epoch:.2f}  {summary(values, self._num_classes)}"
        )
        self._panel.on_evaluation(line)
        self._print(f"-- {line}")
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
        self._course.spent["evaluating and saving"] += seconds + time.monotonic() - started

    def on_validation_of_best(self, values: Mapping[str, float], best: EarlyStopping) -> None:
        """Reports the validation of the checkpoint that was best on the minival images."""
        self._log("validation", best.best_step, values)
        self._sync()
        self._print(f"validation of the best checkpoint, step {best.best_step}: {summary(values, self._num_classes)}")
        if self._files:
            self._files.on_save(best, is_end=True)

    def on_end(self, values: Mapping[str, float], best: EarlyStopping, is_early: bool) -> None:
        """Reports the last evaluation's results, the best of them, where the time went, and what to do next."""
        course = self._course
        spent = ", ".join(f"{duration(seconds)} {what}" for what, seconds in course.spent.items())
        ending = f"stopped early, {best.evaluations_since_best} evaluations after the best" if is_early else "finished"
        of_best = f"best checkpoint: top-1 {best.best_accuracy:.2%}, step {best.best_step}"
        lines = [f"{ending}: {summary(values, self._num_classes)}; {of_best}"]
        lines += describe_delivery(self._config, best)
        lines.append(f"time: {spent}; goodput {course.goodput:.0%}")
        if self._files:
            self._files.on_save(best, is_end=True)
            lines += describe_end(self._model_dir)
        for line in lines:
            self._print(line)

    def _print(self, line: str) -> None:
        if self._files:
            print(line, flush=True)

    def _log(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        if self._files:
            self._logs.append(kind, step, step / self._course.steps_per_epoch, values)

    def _sync(self) -> None:
        if self._files:
            self._logs.sync()
