"""The course of a run: how far it is, how long its parts take, and what is left."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from efficientnet_tpu.display.terminal import duration

SPENT_ON = ("starting", "training", "waiting for data", "evaluating and saving")


@dataclass
class Course:
    """The steps of a run and its clock.

    step: that the run has made. evaluation_steps: where evaluations are to come, the last at its end.
    steps_per_epoch: not rounded. batch_size: images of a step. num_replicas: devices that share them.
    spent: seconds by what they went to. seconds_per_step, seconds_per_evaluation: None before one was measured.
    """

    step: int
    evaluation_steps: Sequence[int]
    steps_per_epoch: float
    batch_size: int
    num_replicas: int = 1
    spent: dict[str, float] = field(
        default_factory=lambda: {
            "starting": 0.0,
            "training": 0.0,
            "waiting for data": 0.0,
            "evaluating and saving": 0.0,
        }
    )
    seconds_per_step: float | None = None
    seconds_per_evaluation: float | None = None
    calls: int = 0

    @property
    def total_steps(self) -> int:
        """The step at which the run ends."""
        return self.evaluation_steps[-1]

    @property
    def epoch(self) -> float:
        """The epochs made, not rounded."""
        return self.step / self.steps_per_epoch

    @property
    def goodput(self) -> float:
        """The share, 0..1, of the time since the first step was asked for that went into training steps."""
        total = sum(self.spent.values())
        return self.spent["training"] / total if total else 0.0

    @property
    def wait_share(self) -> float:
        """The share, 0..1, of the time of training steps that they waited for data."""
        waited = self.spent["waiting for data"]
        return waited / (waited + self.spent["training"]) if waited else 0.0

    def on_steps(self, step: int, num_steps: int, seconds: float, waited: float) -> None:
        """Counts a compiled call of `num_steps` steps up to `step`; the first one compiles."""
        self.step = step
        self.calls += 1
        if self.calls == 1:
            self.spent["starting"] = seconds
            return
        self.spent["training"] += seconds - waited
        self.spent["waiting for data"] += waited
        # The newest measurement weighs most: steps differ little, but the machine's other load comes and goes.
        measured, before = seconds / num_steps, self.seconds_per_step
        self.seconds_per_step = measured if before is None or self.calls < 4 else before + 0.3 * (measured - before)

    def on_evaluation(self, seconds: float) -> None:
        """Counts an evaluation."""
        self.seconds_per_evaluation = seconds
        self.spent["evaluating and saving"] += seconds

    def seconds_left(self) -> float:
        """Returns the seconds to the end of the run; of evaluations, once one has been measured."""
        training = (self.total_steps - self.step) * (self.seconds_per_step or 0.0)
        return training + self._evaluations_left() * (self.seconds_per_evaluation or 0.0)

    def time_left(self) -> str:
        """Returns '3 min 5 s to go', with the evaluations that no time is known for."""
        text, evaluations = f"{duration(self.seconds_left())} to go", self._evaluations_left()
        if self.seconds_per_evaluation is None:
            return f"{text}, and {evaluations} evaluation{'s' * (evaluations > 1)}"
        return text

    def _evaluations_left(self) -> int:
        return sum(1 for evaluation_step in self.evaluation_steps if evaluation_step >= self.step)
