"""The learning rate at a step. Pure formulas of the reference implementation; no TensorFlow.

Every shape takes the array library it computes with, so that a table, a plot and the compiled step share one formula:
numpy by default, keras.ops inside the step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from efficientnet_tpu.config import TrainConfig

REFERENCE_BATCH_SIZE = 256


@dataclass(frozen=True)
class Schedule:
    """A learning-rate curve in units of steps."""

    shape: str  # a key of SHAPES
    initial: float
    warmup_steps: int
    decay_steps: float
    decay_factor: float
    total_steps: int


def steps_per_epoch(num_images: int, batch_size: int) -> float:
    """A real number: the reference never rounds it, and batches run on across the epoch's edge."""
    return num_images / batch_size


def make_schedule(train: TrainConfig, num_images: int) -> Schedule:
    """The curve of a recipe on a training set of `num_images`: the rate grows linearly with the batch size."""
    epoch = steps_per_epoch(num_images, train.train_batch_size)
    return Schedule(
        shape=train.learning_rate_schedule,
        initial=train.base_learning_rate * train.train_batch_size / REFERENCE_BATCH_SIZE,
        warmup_steps=int(train.lr_warmup_epochs * epoch),
        decay_steps=train.lr_decay_epochs * epoch,
        decay_factor=train.lr_decay_factor,
        total_steps=max(1, int(train.train_epochs * epoch)),
    )


def learning_rate(schedule: Schedule, step: Any, xp: Any = np) -> Any:
    """Rate of the update that takes the weights from `step` to step + 1; `step` is a number or an array of them.

    The warm-up, linear from exactly 0, replaces the decay but does not delay its clock: at its end the rate falls from
    nearly `initial` to what the decay has reached by then.
    """
    decayed = SHAPES[schedule.shape](schedule, step, xp)
    warming_up = schedule.initial * step / max(1, schedule.warmup_steps)
    return xp.where(step < schedule.warmup_steps, warming_up, decayed)


def _exponential(schedule: Schedule, step: Any, xp: Any) -> Any:
    """A staircase: decay_factor every decay_steps."""
    return schedule.initial * schedule.decay_factor ** xp.floor(step / schedule.decay_steps)


def _cosine(schedule: Schedule, step: Any, xp: Any) -> Any:
    """Half a cosine over the whole run, to zero."""
    return 0.5 * schedule.initial * (1 + xp.cos(np.pi * step / schedule.total_steps))


def _constant(schedule: Schedule, step: Any, xp: Any) -> Any:
    return schedule.initial + 0.0 * step


SHAPES: dict[str, Callable[[Schedule, Any, Any], Any]] = {
    "exponential": _exponential,
    "cosine": _cosine,
    "constant": _constant,
}
