"""Chooses what a run of few steps takes in place of defaults that are made for long ones. No TensorFlow.

Chosen are only options that nobody has set: what a flag or a recipe says stays, and a run that continues keeps what it
began with. The average of the weights needs nothing: its ramp (`ema.decay_at`) fits it to any number of steps.
"""

import math
import shlex

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.installation import program, recipe_file
from efficientnet_tpu.models.architecture import BATCH_NORM_MOMENTUM
from efficientnet_tpu.training.learning_rate import (
    WARMUP_EPOCHS,
    Schedule,
    make_schedule,
    steps_per_epoch,
    warmup_epochs,
)

# Below, a network that begins at random learns little (docs/fine_tuning.md).
FEW_STEPS = 1000
# Batch norm's statistics remember 1 / (1 - momentum) steps, here a 25th of the run: after a fifth of it, less than 1%
# of the initial ones is left.
MEMORIES_PER_RUN = 25
LEAST_BATCH_NORM_MOMENTUM = 0.8
# Steps between two evaluations, each of which saves too; shorter runs are evaluated ten times.
STEPS_PER_EVALUATION, LEAST_EVALUATIONS = 20, 10


def batch_norm_momentum(num_updates: int) -> float:
    """Returns the decay with which batch norm's statistics follow a run of so many updates: 0.99 from 2,500 on."""
    fitting = round(1 - MEMORIES_PER_RUN / num_updates, 4)
    return min(BATCH_NORM_MOMENTUM, max(LEAST_BATCH_NORM_MOMENTUM, fitting))


def epochs_per_evaluation(total_steps: int, steps_in_epoch: float) -> float:
    """Returns the epochs between two evaluations: 1, and more where an epoch has few steps."""
    steps = min(STEPS_PER_EVALUATION, total_steps / LEAST_EVALUATIONS)
    # Down: evaluations are at multiples of the interval, rounded up.
    return max(1.0, math.floor(1e4 * steps / steps_in_epoch) / 1e4)


def fitted(config: Config, num_images: int) -> tuple[Config, list[str]]:
    """Returns the config of a new run with a value for what was left out, and lines about a run of few steps.

    num_images: training images. The lines name the command that would serve better, and what was not left at its
    default. The mode of batch norm has been chosen.
    """
    train_config = config.train
    schedule = make_schedule(train_config, num_images)
    num_steps = schedule.total_steps
    momentum, epochs = config.model.batch_norm_momentum, config.eval.epochs_per_eval
    num_updates = num_steps * train_config.gradient_accumulation_steps  # its statistics move with each micro-batch
    follows = train_config.bn_mode == "train"
    chosen = batch_norm_momentum(num_updates) if follows else BATCH_NORM_MOMENTUM
    lines, changes = [], []
    if num_steps < FEW_STEPS and not train_config.init_from:
        lines.append(describe_few_steps(config, num_steps))
    if momentum is None:
        momentum = chosen
        if chosen != BATCH_NORM_MOMENTUM:
            changes.append(f"--batch_norm_momentum={chosen:g} in place of {BATCH_NORM_MOMENTUM:g}")
    elif follows and momentum > chosen and num_updates * (1 - momentum) < LEAST_EVALUATIONS:
        lines.append(
            f"--batch_norm_momentum={momentum:g}: the statistics that are evaluated will not follow {num_steps:,} "
            f"steps; left out, it is {chosen:g}"
        )
    if epochs is None:
        epochs = epochs_per_evaluation(num_steps, steps_per_epoch(num_images, train_config.batch_size))
        if epochs != 1:
            changes.append(f"--epochs_per_eval={epochs:g} in place of 1")
    warmup = warmup_epochs(train_config)
    if warmup != WARMUP_EPOCHS and train_config.lr_warmup_epochs is None:
        changes.append(f"--lr_warmup_epochs={warmup:g} in place of {WARMUP_EPOCHS:g}")
    lines += describe_endless_warmup(schedule, warmup)
    if changes:
        ramp = (1 + num_steps) / (10 + num_steps)
        if train_config.moving_average_decay > ramp:
            changes.append(f"the average's decay rises to {ramp:.4g} by its ramp")
        lines.append(f"chosen for a run of {num_steps:,} steps: {'; '.join(changes)}")
    chosen_options = {"batch_norm_momentum": momentum, "epochs_per_eval": epochs, "lr_warmup_epochs": warmup}
    return with_options(config, chosen_options), lines


def describe_endless_warmup(schedule: Schedule, epochs: float) -> list[str]:
    """Returns a line where the run ends before its warm-up of so many epochs."""
    if schedule.warmup_steps < schedule.total_steps:
        return []
    share = schedule.total_steps / schedule.warmup_steps
    return [
        f"--lr_warmup_epochs={epochs:g}: the run ends in its warm-up, at {share:.0%} of the learning rate; left out, "
        "the warm-up is at most a quarter of the run"
    ]


def describe_few_steps(config: Config, num_steps: int) -> str:
    """Returns the line for a network that begins at random and has few steps: the command that would serve."""
    model_dir = config.run.model_dir.rstrip("/")
    flags = ["--flagfile=finetune", "--init_from=WEIGHTS", config.data.source, f"--model_dir={model_dir}-finetuned"]
    command = f"{program()} {shlex.join(flags)}"
    return (
        f"note: {num_steps:,} steps are few for a network that begins at random; trained weights serve better: "
        f"`{command}` ({recipe_file('finetune')} says where to get them)"
    )
