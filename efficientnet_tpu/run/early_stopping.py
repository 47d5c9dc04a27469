"""The best evaluation of a run so far, and the end of a run that no longer improves."""

import dataclasses
import json
import math
import shlex
from dataclasses import dataclass

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import program
from efficientnet_tpu.texts.json_text import read_json
from efficientnet_tpu.texts.printable import shown


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

    @classmethod
    def from_json(cls, content: bytes, path: str) -> "EarlyStopping":
        """Inverts `to_json`. path: of the checkpoint that holds the content. Raises UserError for any other content."""
        try:
            found = cls(**read_json(content.decode()))
        except (AttributeError, TypeError, ValueError) as error:
            raise _no_evaluations(path, shown(error)) from error
        counts = (found.evaluated_step, found.best_step, found.evaluations_since_best)
        accuracies = (accuracy for accuracy in (found.best_accuracy, found.evaluated_accuracy) if accuracy is not None)
        if not all(type(count) is int and count >= 0 for count in counts):
            raise _no_evaluations(path, "a step, or a number of evaluations, is none")
        if not all(type(accuracy) in (int, float) and 0 <= accuracy <= 1 for accuracy in accuracies):
            raise _no_evaluations(path, "an accuracy is not from 0 to 1")
        return found

    def to_json(self) -> str:
        """Returns the text that a checkpoint holds."""
        return json.dumps(dataclasses.asdict(self))

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


def _no_evaluations(path: str, why: str) -> UserError:
    return UserError(
        f"{path}: the evaluations that this checkpoint holds cannot be read: {why}. Another program changed it. Move "
        "its files away, and the checkpoint before it is taken."
    )


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
