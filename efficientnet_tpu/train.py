"""The training run: what it works with, and the loop: train, report, evaluate, save."""

import math
import time

import tensorflow as tf

from efficientnet_tpu import distribution, run_record
from efficientnet_tpu.checkpoint import Checkpoints
from efficientnet_tpu.config import Config, UserError
from efficientnet_tpu.data.datasets import open_data
from efficientnet_tpu.data.image_data import ImageData, Shard, Split
from efficientnet_tpu.data.input_pipeline import explained_errors, train_batches
from efficientnet_tpu.data.missing_images import MissingImages
from efficientnet_tpu.data.preprocessing import make_train_image
from efficientnet_tpu.data.unreadable import UnreadableImages
from efficientnet_tpu.evaluate import make_evaluator
from efficientnet_tpu.learning_rate import Schedule, learning_rate, make_schedule, steps_per_epoch
from efficientnet_tpu.models import complexity
from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.compound_scaling import architecture_of
from efficientnet_tpu.models.layers import batch_norm_group_size
from efficientnet_tpu.progress import Progress, summary
from efficientnet_tpu.train_step import State, make_state, make_train_loop, make_train_step


def train_and_eval(config: Config) -> dict[str, float]:
    """`main.py train_and_eval`: trains to the end, from the newest checkpoint in model_dir if there is one.

    Returns the last evaluation's results (see `evaluate.make_evaluator`).
    """
    strategy = distribution.connect(config.hardware)
    _require_even_shares(strategy, config)
    data = open_data(config.data)
    record = run_record.prepare(run_record.describe(config, data))

    architecture = architecture_of(config.model, len(data.label_names))
    schedule = make_schedule(config.train, data.train.num_images)
    state = make_state(strategy, architecture, config, schedule)
    checkpoints = Checkpoints(config.run.model_dir, state.model, state.average, state.optimizer, config.train)
    step = checkpoints.restore()
    run_record.save(record)
    _introduce(config, data, architecture, schedule, distribution.describe(strategy), step)

    epoch = steps_per_epoch(data.train.num_images, config.train.train_batch_size)
    # With a minival, the validation images are looked at when the run has ended, not while it goes.
    evaluate = make_evaluator(strategy, state.average, architecture, data.minival or data.validation, config)
    pending = evaluation_steps(schedule.total_steps, config.eval.epochs_per_eval * epoch, after=step)
    if not pending:
        results = evaluate()
        print(f"this run has finished: {summary(results)}; raise --train_epochs to train on")
        return results
    train_step = make_train_step(state, config.train, config.run.seed, strategy.num_replicas_in_sync)
    train_loop = make_train_loop(strategy, train_step)
    missing = missing_images(data.train, config)
    iterator = training_stream(strategy, data.train, architecture, config, step, missing)
    progress = Progress(config, step, pending, epoch)
    results: dict[str, float] = {}
    for next_evaluation in pending:
        while step < next_evaluation:
            num_steps = min(progress.steps_to_next_line(), next_evaluation - step)
            started = time.monotonic()
            with explained_errors(config.data.source, missing.report):
                waited = float(train_loop(iterator, tf.constant(num_steps)))
            missing.report()
            step += num_steps
            progress.trained(step, num_steps, time.monotonic() - started, waited, _take_metrics(state, schedule, step))
        started = time.monotonic()
        results = evaluate()
        checkpoints.save(step, results["top_1_accuracy"])
        progress.evaluated(step, time.monotonic() - started, results)
    progress.finished(results, checkpoints.best_accuracy)
    if data.minival:
        results = make_evaluator(strategy, state.average, architecture, data.validation, config)()
        print(f"validation: {summary(results)}")
    return results


def _require_even_shares(strategy: tf.distribute.Strategy, config: Config) -> None:
    """Refuses numbers of devices over which batches, batch norm's groups or pairs to mix do not divide."""
    batch_norm_group_size(strategy.num_replicas_in_sync)
    distribution.per_replica_batch_size(config.train.train_batch_size, strategy, "train_batch_size")
    distribution.per_replica_batch_size(config.eval.eval_batch_size, strategy, "eval_batch_size")
    needed = 2 * (bool(config.train.mixup_alpha) + bool(config.train.cutmix_alpha))
    if config.train.train_batch_size // strategy.num_replicas_in_sync < needed:
        raise UserError(
            f"--train_batch_size={config.train.train_batch_size}: leaves a device fewer than {needed} images, and "
            "mixup and cutmix without pairs. Use a larger batch or fewer devices."
        )


def evaluation_steps(total_steps: int, interval: float, after: int) -> list[int]:
    """Steps later than `after` at which to evaluate and save: the multiples of `interval`, rounded up, and the last."""
    count = math.ceil(total_steps / interval)
    steps = {min(total_steps, math.ceil(index * interval)) for index in range(1, count + 1)}
    return sorted(step for step in steps if step > after)


def missing_images(split: Split, config: Config) -> MissingImages:
    """The account of the images that the run has to do without."""
    unreadable = UnreadableImages(
        config.run.model_dir, config.data.max_unreadable_percent, split.num_images, config.data.source
    )
    return MissingImages(split, config.run.seed, unreadable)


def training_stream(
    strategy: tf.distribute.Strategy,
    split: Split,
    architecture: Architecture,
    config: Config,
    first_step: int,
    missing: MissingImages,
) -> tf.data.Iterator:
    """The run's batches from `first_step` on, spread over the devices."""
    batch_size = config.train.train_batch_size
    prepare = make_train_image(config.data, architecture.resolution)

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        shard = Shard(context.input_pipeline_id, context.num_input_pipelines)
        first_image = first_step * batch_size // shard.count
        per_replica = context.get_per_replica_batch_size(batch_size)
        note_missing = missing.noting(shard)
        return train_batches(split, prepare, per_replica, config.run.seed, first_image, shard, note_missing)

    return iter(strategy.distribute_datasets_from_function(batches))


def _take_metrics(state: State, schedule: Schedule, step: int) -> dict[str, float]:
    """The means since the last call, which are then forgotten, and the learning rate of the last step."""
    values = {"loss": float(state.loss.result()), "top_1_accuracy": float(state.accuracy.result())}
    state.loss.reset_state()
    state.accuracy.reset_state()
    if not math.isfinite(values["loss"]):
        raise UserError(
            f"the loss became {values['loss']} at or shortly before step {step}; the last checkpoint is from before. A "
            "lower --base_learning_rate or a longer --lr_warmup_epochs usually helps."
        )
    return {**values, "learning_rate": float(learning_rate(schedule, step - 1))}


def _introduce(
    config: Config, data: ImageData, architecture: Architecture, schedule: Schedule, devices: str, step: int
) -> None:
    """Says what is about to be done, before anything slow starts."""
    cost, train = complexity.count(architecture), config.train
    lines = [
        f"{architecture.name}: {cost.trainable_params:,} parameters, {cost.multiply_adds:,} multiply-adds at "
        f"{architecture.resolution} x {architecture.resolution}, {len(data.label_names)} classes",
        f"{data.train.num_images:,} training, {data.validation.num_images:,} validation images: {config.data.source}"
        + (f"; {data.minival.num_images:,} held out of training to choose by" if data.minival else ""),
        f"{train.train_epochs:g} epochs, {schedule.total_steps:,} steps of {train.train_batch_size} images "
        f"on {devices}",
        f"everything goes to {config.run.model_dir}",
    ]
    if train.moving_average_decay:
        lines.append(f"validated is the average of the weights (decay {train.moving_average_decay}): it lags at first")
    if step:
        lines.append(f"continuing from step {step:,}")
    print("\n".join(lines), flush=True)
