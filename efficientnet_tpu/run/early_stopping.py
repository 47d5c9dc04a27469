"""The best evaluation of a run so far, and the end of a run that no longer improves."""

import dataclasses
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EarlyStopping:
    """A summary of the evaluations of a run.

    It is part of every checkpoint, by the names of these fields, so that a resumed run decides as an uninterrupted one.
    """

    evaluated_step: int = 0  # of the last evaluation
    best_step: int = 0
    best_accuracy: float | None = None  # 0..1; None before the first evaluation
    evaluations_since_best: int = 0

    def after(self, step: int, accuracy: float) -> "EarlyStopping":
        """Returns the summary with one more evaluation, of top-1 accuracy 0..1.

        An equal accuracy becomes the best; only a better one renews the patience.
        """
        is_better = self.best_accuracy is None or accuracy > self.best_accuracy
        new = dataclasses.replace(
            self, evaluated_step=step, evaluations_since_best=0 if is_better else self.evaluations_since_best + 1
        )
        if is_better or accuracy == self.best_accuracy:
            new = dataclasses.replace(new, best_step=step, best_accuracy=accuracy)
        return new

    def should_stop(self, patience: int) -> bool:
        """Returns whether the last `patience` evaluations were not better than the best; never with patience 0."""
        return 0 < patience <= self.evaluations_since_best


def evaluation_steps(total_steps: int, interval: float, step: int, early_stopping: EarlyStopping) -> list[int]:
    """Returns the steps, from `step` on, at which to evaluate and save: multiples of `interval`, rounded up, and the
    last step.

    `step` itself is one of them if it has been saved but not evaluated.
    """
    count = math.ceil(total_steps / interval)
    steps = {min(total_steps, math.ceil(index * interval)) for index in range(1, count + 1)}
    return sorted(later for later in steps if later >= step and later > early_stopping.evaluated_step)
