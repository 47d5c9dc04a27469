"""How far the paper in miniature is: trainings that have ended, those that are left, and the hours they take."""

import threading
from collections.abc import Sequence

from efficientnet_tpu.studies import run_scaling_study
from efficientnet_tpu.studies.miniature.hours import Work, as_hours, fit_speed
from efficientnet_tpu.studies.scaling_study import TrialResult


class Progress:
    """The trainings of all steps. Its methods may be called by several workers at a time.

    measured: trainings, whole or parts, with the seconds of one core that each took. left: the work of each step that
    is not done.
    """

    def __init__(
        self, measured: Sequence[tuple[Work, float]], left: dict[str, list[Work]], num_done: int, num_workers: int
    ) -> None:
        self._measured = [*measured]
        self._left = left
        self._num_done = num_done
        self._num_workers = num_workers
        self._lock = threading.Lock()

    def describe(self) -> str:
        """Returns what there is to do, before the first training: '64 trainings, 3 of them done, about 2.0 hours'."""
        total = self._num_done + sum(map(len, self._left.values()))
        return f"{total} trainings, {self._num_done} of them done; about {self.hours_left()}"

    def hours_left(self) -> str:
        """Returns the time that is left, and the CPU time of it, for people."""
        works = [work for step in self._left.values() for work in step]
        if not works or not self._measured:
            return "0 minutes" if not works else "unknown hours"
        seconds = fit_speed(self._measured).seconds(works)
        if self._num_workers == 1:
            return as_hours(seconds)
        # A core is shared where there are fewer than workers; then the CPU time is what counts.
        return f"{as_hours(seconds / self._num_workers)}, {as_hours(seconds)} of CPU time"

    def begin(self, step: str, works: Sequence[Work]) -> None:
        """Notes what a step has left, now that it is known."""
        with self._lock:
            self._left[step] = [*works]

    def on_result(self, step: str, row: TrialResult, images: float) -> None:
        """Prints a line on a training that has ended. images: those that it was trained on."""
        with self._lock:
            self._num_done += 1
            if self._left[step]:
                self._left[step].pop(0)
            self._measured.append((Work(row.multiply_adds, images), row.cpu_seconds))
            total = self._num_done + sum(map(len, self._left.values()))
            ending = f"about {self.hours_left()} left" if total > self._num_done else "the last"
            print(
                f"{run_scaling_study.describe(row)}; {step}; {self._num_done} of {total}, {ending}",
                flush=True,
            )
