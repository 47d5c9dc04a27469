"""Which evaluation of a run has been the best so far, and when to stop waiting for a better one."""

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class EarlyStopping:
    """What the evaluations of a run have come to. It is part of every checkpoint, so that a run taken up again judges
    as if it had never stopped.
    """

    evaluated_step: int = 0  # of the last evaluation
    best_step: int = 0
    best_accuracy: float | None = None  # 0..1; None before the first evaluation
    evaluations_since_best: int = 0

    def after(self, step: int, accuracy: float) -> "EarlyStopping":
        """With one more evaluation. One as good as the best takes its place, but only a better one renews patience."""
        better = self.best_accuracy is None or accuracy > self.best_accuracy
        new = dataclasses.replace(
            self, evaluated_step=step, evaluations_since_best=0 if better else self.evaluations_since_best + 1
        )
        if better or accuracy == self.best_accuracy:
            new = dataclasses.replace(new, best_step=step, best_accuracy=accuracy)
        return new

    def should_stop(self, patience: int) -> bool:
        """Whether `patience` evaluations in a row have brought nothing better; never with patience 0."""
        return 0 < patience <= self.evaluations_since_best
