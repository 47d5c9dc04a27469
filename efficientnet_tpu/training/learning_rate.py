"""The learning rate at a step: the formulas of the reference implementation, without TensorFlow.

Every shape takes the array library it computes with, so that a table, a plot and the compiled step share one formula:
numpy by default, keras.ops inside the step.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from efficientnet_tpu.config.train import TrainConfig
from efficientnet_tpu.errors import UserError

REFERENCE_BATCH_SIZE = 256
# Of 350 epochs in the reference. A run of few epochs would hardly, or never, train at its full rate.
WARMUP_EPOCHS, LARGEST_WARMUP_SHARE = 5.0, 0.25


@dataclass(frozen=True)
class Schedule:
    """A learning-rate curve in units of steps."""

    shape: str  # a key of SHAPES
    initial: float
    warmup_steps: int
    decay_steps: float | Fraction
    decay_factor: float
    total_steps: int
    final: float = 0.0  # poly only


def steps_per_epoch(num_images: int, batch_size: int) -> float:
    """Returns a real number: the reference never rounds it, and a batch may span two epochs."""
    return num_images / batch_size


def warmup_epochs(train_config: TrainConfig) -> float:
    """Returns the epochs of warm-up: those that were set, else as many as fit to the length of the run."""
    if train_config.lr_warmup_epochs is not None:
        return train_config.lr_warmup_epochs
    return min(WARMUP_EPOCHS, round(LARGEST_WARMUP_SHARE * train_config.train_epochs, 4))


def make_schedule(train_config: TrainConfig, num_images: int) -> Schedule:
    """Builds the curve for a training set of `num_images`. The rate is proportional to the batch size.

    Raises UserError for a `poly` that would rise.
    """
    epoch = Fraction(num_images, train_config.batch_size)
    initial = train_config.base_learning_rate * train_config.batch_size / REFERENCE_BATCH_SIZE
    if train_config.learning_rate_schedule == "poly" and initial < train_config.lr_end:
        raise UserError(
            f"--lr_end={train_config.lr_end:g}: is above the rate that poly starts from, {initial:g} "
            f"(--base_learning_rate={train_config.base_learning_rate:g} * {train_config.batch_size} images / "
            f"{REFERENCE_BATCH_SIZE}): the rate would rise. Lower --lr_end; it is not scaled by the batch size."
        )
    return Schedule(
        shape=train_config.learning_rate_schedule,
        initial=initial,
        warmup_steps=int(_exact(warmup_epochs(train_config)) * epoch),
        decay_steps=_exact(train_config.lr_decay_epochs) * epoch,
        decay_factor=train_config.lr_decay_factor,
        total_steps=max(1, int(_exact(train_config.train_epochs) * epoch)),
        final=train_config.lr_end,
    )


def _exact(number: float) -> Fraction:
    """Returns the number as it was typed: 12/5 for 2.4, not the nearest binary fraction."""
    return Fraction(str(number))


def learning_rate(schedule: Schedule, step: Any, xp: Any = np) -> Any:
    """Returns the rate of the update from `step` to step + 1: float of the shape of `step`, an int scalar or [...].

    The warm-up is linear from exactly 0. It replaces the decay but does not delay its clock: at the end of the warm-up
    the rate falls from nearly `initial` to the value that the decay has reached by then.
    """
    decayed = SHAPES[schedule.shape](schedule, step, xp)
    warming_up = schedule.initial * xp.true_divide(step, max(1, schedule.warmup_steps))
    return xp.where(step < schedule.warmup_steps, warming_up, decayed)


def exponential(schedule: Schedule, step: Any, xp: Any) -> Any:
    """Returns the rate on a staircase: `decay_factor` every `decay_steps`, by comparing whole numbers.

    Divided in float32, as the reference does, some steps down (that of step 87,831 at batch 4096) come a step early.
    """
    starts, rates = _staircase(schedule)
    reached = xp.expand_dims(step, -1) >= starts
    return xp.min(xp.where(reached, xp.array(rates), schedule.initial), axis=-1)  # the last tread reached is the lowest


@functools.cache
def _staircase(schedule: Schedule) -> tuple[list[int], list[float]]:
    """Returns the first step on every tread up to the end of the run, and the rate there."""
    decay_steps = Fraction(schedule.decay_steps)
    starts, decays = [0], [0]
    while (start := math.ceil((decays[-1] + 1) * decay_steps)) < schedule.total_steps:
        starts.append(start)
        decays.append(math.floor(start / decay_steps))  # several at once, where decay_steps is below 1
    return starts, [schedule.initial * schedule.decay_factor**count for count in decays]


def cosine(schedule: Schedule, step: Any, xp: Any) -> Any:
    """Returns the rate on half a cosine over the whole run, down to zero."""
    return 0.5 * schedule.initial * (1 + xp.cos(np.pi * xp.true_divide(step, schedule.total_steps)))


def constant(schedule: Schedule, step: Any, xp: Any) -> Any:
    """Returns `initial` at every step."""
    return xp.multiply(xp.ones_like(step), schedule.initial)


def polynomial(schedule: Schedule, step: Any, xp: Any) -> Any:
    """Returns the rate on a parabola from `initial` at the end of the warm-up to `final` at the end of the run."""
    # The clock starts at 1, as in the reference.
    num_steps = max(1, schedule.total_steps - schedule.warmup_steps + 1)
    left = 1 - xp.true_divide(xp.clip(step - schedule.warmup_steps, 1, num_steps), num_steps)
    return schedule.final + (schedule.initial - schedule.final) * left**2


SHAPES: dict[str, Callable[[Schedule, Any, Any], Any]] = {
    "exponential": exponential,
    "cosine": cosine,
    "constant": constant,
    "poly": polynomial,
}
