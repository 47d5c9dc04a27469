"""Renders a training run for a terminal: a bar and four lines, in 80 columns."""

import time
from collections.abc import Mapping
from typing import Any

from efficientnet_tpu.display.terminal import duration
from efficientnet_tpu.hardware.memory_in_use import memory_in_use
from efficientnet_tpu.run.reports.course import Course

COMPILING = "compiling, and filling the input pipeline"
TRAINING, EVALUATING, SAVING = "training", "evaluating", "saving"


class RunPanel:
    """The state of a run as a person looks at it. A thread renders it while the run changes it.

    Between two compiled calls nothing is known of the steps: the bar moves by the time that a step took before.
    """

    def __init__(self, course: Course) -> None:
        self._course = course
        self._values: Mapping[str, float] = {}
        self._evaluation = ""
        self._begin(COMPILING)
        self._steps_asked = 0

    def on_call(self, num_steps: int) -> None:
        """Notes that `num_steps` steps begin now."""
        self._begin(TRAINING if self._course.calls else COMPILING)
        self._steps_asked = num_steps

    def on_steps(self, values: Mapping[str, float]) -> None:
        """Takes the means of the steps that were made, as they are logged."""
        self._values = values
        self._begin(EVALUATING if self._course.step in self._course.evaluation_steps else TRAINING)

    def on_saving(self) -> None:
        """Notes that a checkpoint is being written."""
        self._begin(SAVING)

    def on_evaluation(self, evaluation: str) -> None:
        """Takes the line of an evaluation."""
        self._evaluation = evaluation

    def render(self, columns: int) -> list[Any]:
        """Returns the lines as renderables of rich."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        step = self._estimated_step(time.monotonic())
        head = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None):  # the bar takes what the texts leave
            head.add_column(ratio=ratio, no_wrap=True)
        course = self._course
        epochs = course.total_steps / course.steps_per_epoch
        head.add_row(
            Text(f"epoch {step / course.steps_per_epoch:.2f} of {epochs:.4g}"),
            ProgressBar(total=course.total_steps, completed=step),
            Text(f"{step / course.total_steps:.0%}  {self._time_left()}"),
        )
        return [head, *(Text(line, no_wrap=True, overflow="ellipsis") for line in self.lines(time.monotonic()))]

    def lines(self, now: float) -> list[str]:
        """Returns the lines below the bar. now: seconds of the monotonic clock."""
        course, values = self._course, self._values
        since = f"{self._phase} for {duration(now - self._since)}" if self._phase != TRAINING else TRAINING
        lines = [f"step {self._estimated_step(now):,.0f} of {course.total_steps:,}: {since}"]
        if values:
            lines[0] += (
                f"  loss {values['loss']:.4f}  top-1 {values['top_1_accuracy']:.1%}  lr {values['learning_rate']:.5f}"
            )
            rate = values["images_per_second"]
            chips = f" ({rate / course.num_replicas:,.0f} a chip)" if course.num_replicas > 1 else ""
            lines.append(
                f"{rate:,.0f} images/s{chips}  waiting for data {values['data_wait_share']:.0%}  {memory_in_use()}"
            )
            spent = {name: seconds for name, seconds in course.spent.items() if name != "training"}
            others = ", ".join(f"{name} {duration(seconds)}" for name, seconds in spent.items() if seconds >= 1)
            lines.append(f"goodput {course.goodput:.0%}{f': {others}' if others else ''}")
        return lines + ([self._evaluation] if self._evaluation else [])

    def _begin(self, phase: str) -> None:
        self._phase, self._since = phase, time.monotonic()

    def _estimated_step(self, now: float) -> float:
        course = self._course
        if self._phase != TRAINING or not course.seconds_per_step:
            return course.step
        return course.step + min(self._steps_asked, int((now - self._since) / course.seconds_per_step))

    def _time_left(self) -> str:
        return self._course.time_left() if self._course.seconds_per_step else ""
