"""The best evaluation of a run so far, and the end of a run that no longer improves."""

import dataclasses
import math
import shlex
from dataclasses import dataclass

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.installation import program


@dataclass(frozen=True)
class EarlyStopping:
    """A summary of the evaluations of a run.

    It is part of every checkpoint, by the names of these fields, so that a resumed run decides as an uninterrupted one.
    """

    evaluated_step: int = 0  # of the last evaluation
    best_step: int = 0
    best_accuracy: float | None = None  # 0..1; None before the first evaluation
    evaluations_since_best: int = 0
    evaluated_accuracy: float | None = None  # of the last evaluation; None in checkpoints of earlier versions

    def after(self, step: int, accuracy: float) -> "EarlyStopping":
        """Returns the summary with one more evaluation, of top-1 accuracy 0..1.

        An equal accuracy becomes the best; only a better one renews the patience.
        """
        is_better = self.best_accuracy is None or accuracy > self.best_accuracy
        new = dataclasses.replace(
            self,
            evaluated_step=step,
            evaluated_accuracy=accuracy,
            evaluations_since_best=0 if is_better else self.evaluations_since_best + 1,
        )
        if is_better or accuracy == self.best_accuracy:
            new = dataclasses.replace(new, best_step=step, best_accuracy=accuracy)
        return new

    def accuracy_at(self, step: int) -> float | None:
        """Returns the top-1 accuracy, 0..1, of the evaluation at `step`, if that was the best or the last one."""
        if step == self.evaluated_step and self.evaluated_accuracy is not None:
            return self.evaluated_accuracy
        return self.best_accuracy if step == self.best_step else None

    def should_stop(self, patience: int) -> bool:
        """Returns whether the last `patience` evaluations were not better than the best; never with patience 0."""
        return 0 < patience <= self.evaluations_since_best


def watched_split(config: Config) -> str:
    """Returns the split whose images decide which checkpoint of a run is the best."""
    return "minival" if config.data.minival_percent else "validation"


def describe_delivery(config: Config, evaluations: EarlyStopping) -> list[str]:
    """Returns a line on which checkpoint of a run that has ended the other commands take, and how they take the other
    one; none where the last is the best.
    """
    if evaluations.best_step == evaluations.evaluated_step:
        return []
    best = f"the best checkpoint, step {evaluations.best_step}: top-1 {evaluations.best_accuracy:.2%}"
    last = f"the last, step {evaluations.evaluated_step}"
    command = f"`{program()} evaluate {shlex.quote(f'--model_dir={config.run.model_dir}')}"
    if config.eval.checkpoint == "last":
        return [f"evaluate, export and predict take {last}; {command} --checkpoint=best` takes {best}"]
    flatters = f"chosen by the {watched_split(config)} images, so that it flatters"
    return [f"evaluate, export and predict take {best}, {flatters}; {command} --checkpoint=last` takes {last}"]


def evaluation_steps(total_steps: int, interval: float, step: int, early_stopping: EarlyStopping) -> list[int]:
    """Returns the steps, from `step` on, at which to evaluate and save: multiples of `interval`, rounded up, and the
    last step.

    `step` itself is one of them if it has been saved but not evaluated.
    """
    count = math.ceil(total_steps / interval)
    steps = {min(total_steps, math.ceil(index * interval)) for index in range(1, count + 1)}
    return sorted(later for later in steps if later >= step and later > early_stopping.evaluated_step)
