"""The monitor of a run: what happens on the host between two compiled calls of the training loop."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

import tensorflow as tf

from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.run.checkpoint_schedule import CheckpointSchedule
from efficientnet_tpu.run.reports.progress import Progress
from efficientnet_tpu.run.tracking.step_profiler import StepProfiler
from efficientnet_tpu.training.learning_rate import Schedule, learning_rate
from efficientnet_tpu.training.metrics import TrainMetrics


class TrainingMonitor:
    """The log, the checkpoints and the clock of a run. Every host has one and calls it equally."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        progress: Progress,
        checkpoint_schedule: CheckpointSchedule,
        metrics: TrainMetrics,
        schedule: Schedule,
        profiler: StepProfiler,
        draw: Callable[[int], None] = lambda step: None,
    ) -> None:
        """draw: is called with the step of an evaluation that has been saved."""
        self._strategy = strategy
        self._progress = progress
        self._checkpoint_schedule = checkpoint_schedule
        self._metrics = metrics
        self._schedule = schedule
        self._profiler = profiler
        self._draw = draw
        self._started = time.monotonic()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the run on a terminal in this context, and ends a profile with it."""
        with self._progress.shown():
            try:
                yield
            finally:
                self._profiler.stop()

    def steps_to_make(self, step: int, next_evaluation: int) -> int:
        """Returns the number of steps of the next compiled call from `step` on, the same on all hosts."""
        self._profiler.on_step(step)
        num_steps = min(
            self._progress.steps_to_next_line(),
            next_evaluation - step,
            self._checkpoint_schedule.steps_to_stop(step),
            self._profiler.steps_to_boundary(step) or next_evaluation - step,
        )
        num_steps = distribution.from_chief(self._strategy, num_steps)
        self._progress.on_call(num_steps)
        self._started = time.monotonic()
        return num_steps

    def on_steps(self, step: int, num_steps: int, seconds_waited: float) -> None:
        """Logs `num_steps` steps up to `step`, which waited `seconds_waited` for data; saves when it is time.

        Raises UserError if the loss is not finite, StoppedError if the run is to stop here; it is saved then.
        """
        rate = float(learning_rate(self._schedule, step - 1))
        values = self._metrics.take() | {"learning_rate": rate}
        # Before anything is written: a run must not continue from what comes after a divergence.
        self._checkpoint_schedule.require_finite(values["loss"], step - num_steps, step)
        self._progress.on_steps(step, num_steps, time.monotonic() - self._started, seconds_waited, values)
        self._checkpoint_schedule.on_steps(step)
        self._started = time.monotonic()

    def stop_if_asked(self, step: int) -> None:
        """Saves and raises StoppedError if the process is told to stop; for long work such as an evaluation."""
        self._checkpoint_schedule.stop_if_asked(step)

    def on_evaluation(self, step: int, results: Mapping[str, float]) -> dict[str, float]:
        """Logs an evaluation, saves, and prints it; returns its results, and the training metrics since the last."""
        results = {**results, **self._metrics.take_since_evaluation()}
        seconds = time.monotonic() - self._started
        # Logged first: a process killed before it has saved drops this line when it continues, and writes it again.
        # Printed last: what has been reported is on the disk.
        self._progress.log_evaluation(step, results)
        self._checkpoint_schedule.on_evaluation(step, results["top_1_accuracy"])
        self._progress.on_evaluation(step, seconds, results)
        self._draw(step)
        return results

    def on_end(self, step: int, results: Mapping[str, float]) -> None:
        """Reports the results of the last evaluation, at `step`, the best one and where the time went."""
        is_early = step < self._schedule.total_steps
        self._progress.on_end(results, self._checkpoint_schedule.early_stopping, is_early)

    def on_validation_of_best(self, results: Mapping[str, float]) -> None:
        """Logs the results of the best checkpoint on the validation images."""
        self._progress.on_validation_of_best(results, self._checkpoint_schedule.early_stopping)
