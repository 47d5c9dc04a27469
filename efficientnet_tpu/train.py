"""The training run: what it works with, and the loop: train, report, evaluate, save."""

import contextlib
import functools
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.data.datasets import open_data
from efficientnet_tpu.data.input_pipeline import explained_errors
from efficientnet_tpu.data.split import ImageData, Split
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.evaluate import make_evaluator
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.hardware.preemption import StopRequest, stop_requests
from efficientnet_tpu.models import complexity
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Architecture
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.run import run_record
from efficientnet_tpu.run.checkpoint import Checkpoints, newest, restore_average
from efficientnet_tpu.run.checkpoint_schedule import CheckpointSchedule
from efficientnet_tpu.run.early_stopping import EarlyStopping
from efficientnet_tpu.run.progress import NullProgress, Progress, summary
from efficientnet_tpu.storage import directory_lock
from efficientnet_tpu.training import class_weights as class_weighting
from efficientnet_tpu.training import fine_tuning
from efficientnet_tpu.training.learning_rate import Schedule, learning_rate, make_schedule, steps_per_epoch
from efficientnet_tpu.training.metrics import TrainMetrics
from efficientnet_tpu.training.precise_batch_norm import make_recalibration
from efficientnet_tpu.training.stream import missing_images, training_stream
from efficientnet_tpu.training.train_step import State, make_state, make_train_loop, make_train_step, require_possible
from efficientnet_tpu.weights.warm_start import start_from, with_normalization


def train_and_eval(config: Config) -> dict[str, float]:
    """`main.py train_and_eval`: trains to the end, from the newest checkpoint in model_dir if there is one.

    Returns the last evaluation's results (see `evaluate.make_evaluator`); with a minival, those of the best checkpoint
    on the validation images. Raises StoppedError when it was told to stop before; its state is saved then.
    """
    strategy = distribution.connect(config.hardware)
    _require_even_shares(strategy, config)
    alone = directory_lock.held(config.run.model_dir) if distribution.is_chief(strategy) else contextlib.nullcontext()
    with distribution.explained_loss_of_host(strategy), alone, stop_requests() as stop_request:
        return _train(_begin(strategy, config), stop_request)


@dataclass(frozen=True)
class _Run:
    """A run that is ready to go on from `step`."""

    config: Config
    strategy: tf.distribute.Strategy
    data: ImageData
    architecture: Architecture
    schedule: Schedule
    state: State
    means: TrainMetrics
    checkpoints: Checkpoints
    step: int
    class_weights: np.ndarray | None

    def evaluator(self, models: dict[str, keras.Model], split: Split) -> Callable[..., dict[str, float]]:
        """See `make_evaluator`."""
        return make_evaluator(self.strategy, models, self.architecture, split, self.config)


def _begin(strategy: tf.distribute.Strategy, config: Config) -> _Run:
    """Makes everything, fills it from the newest checkpoint, and says what is about to be done."""
    # First, since a run that is there lends its options to the host that sees it.
    found = os.path.basename(newest(config.run.model_dir) or "")
    distribution.require_same(strategy, found, f"--model_dir={config.run.model_dir}: the checkpoints are")
    distribution.require_same_run(strategy, config)
    data = open_data(config.data)
    distribution.require_same(strategy, data.fingerprint, f"{config.data.source}: the images are")
    fine_tuning.require_weights(config.train, has_weights=bool(config.train.init_from or found))
    if not found:
        config = with_normalization(config)
    config, batch_norm = _with_batch_norm(config, data, found)
    class_weights = class_weighting.class_weights_of(config.train.class_weights, data)
    distribution.require_same(strategy, str(class_weights), f"--class_weights={config.train.class_weights}: they are")
    record = run_record.prepare(run_record.describe(config, data))
    architecture = configured_architecture(config.model, len(data.label_names))
    schedule = make_schedule(config.train, data.train.num_images)
    state = make_state(strategy, architecture, config, schedule)
    means = TrainMetrics(state)
    tracked = {"model": state.model, "average": state.average, "optimizer": state.optimizer, "means": means.variables}
    checkpoints = Checkpoints(config.run.model_dir, tracked, config.train.keep_checkpoints, strategy)
    step = checkpoints.restore()
    origin = ""
    if config.train.init_from and not found:
        origin = start_from(config.train.init_from, state.model, state.average, config, data.label_names)
    means.start()
    if distribution.is_chief(strategy):
        run_record.save(record)
        weighting = class_weighting.introduction(config.train.class_weights, class_weights, data.label_names)
        for line in filter(None, (origin, batch_norm, weighting)):
            print(line)
        _introduce(config, data, state.model, architecture, schedule, distribution.describe(strategy), step)
    return _Run(config, strategy, data, architecture, schedule, state, means, checkpoints, step, class_weights)


def _with_batch_norm(config: Config, data: ImageData, found: str) -> tuple[Config, str]:
    """The config with a --bn_mode in place of auto, and a line that says why; a run keeps what it began with."""
    if config.train.bn_mode != "auto":
        return config, ""
    if found and run_record.has_run(config.run.model_dir):
        mode, line = run_record.load(config.run.model_dir).config.train.bn_mode, ""
    else:
        mode, line = fine_tuning.choose_batch_norm(config, data.train.num_images)
    return with_options(config, {"bn_mode": mode}), line


def _train(run: _Run, stop_request: StopRequest) -> dict[str, float]:
    config, step, selection = run.config, run.step, run.checkpoints.selection
    epoch = steps_per_epoch(run.data.train.num_images, config.train.train_batch_size)
    patience = config.eval.early_stopping_patience
    # With a minival, the validation images are looked at when the run has ended, not while it goes.
    evaluated = _evaluated(run.state, config)
    evaluate = run.evaluator(evaluated, run.data.minival or run.data.validation)
    pending = evaluation_steps(run.schedule.total_steps, config.eval.epochs_per_eval * epoch, step, selection)
    if not pending or selection.should_stop(patience):
        return _end_again(run, evaluate)
    train_step = make_train_step(
        run.state, config.train, config.run.seed, run.strategy.num_replicas_in_sync, run.class_weights
    )
    train_loop = make_train_loop(run.strategy, train_step)
    recalibrate = make_recalibration(run.strategy, evaluated.values(), run.architecture, run.data.train, config)
    is_chief = distribution.is_chief(run.strategy)
    missing = missing_images(run.data.train, config, listed=is_chief)
    iterator = training_stream(run.strategy, run.data.train, run.architecture, config, step, missing)
    progress = Progress(config, step, selection, pending, epoch) if is_chief else NullProgress()
    saving = CheckpointSchedule(config, run.state, run.checkpoints, progress, stop_request, step)
    for next_evaluation in pending:
        while step < next_evaluation:
            num_steps = min(progress.steps_to_next_line(), next_evaluation - step, saving.steps_to_stop(step))
            num_steps = distribution.from_chief(run.strategy, num_steps)
            started = time.monotonic()
            with explained_errors(config.data.source, missing.report):
                waited = float(train_loop(iterator, tf.constant(num_steps)))
            missing.report()
            step += num_steps
            values = run.means.take() | {"learning_rate": float(learning_rate(run.schedule, step - 1))}
            saving.require_finite(values["loss"], step - num_steps, step)
            progress.trained(step, num_steps, time.monotonic() - started, waited, values)
            saving.between_evaluations(step, selection)
        started = time.monotonic()
        recalibrate()
        results = evaluate(functools.partial(saving.stop_if_asked, step, selection))
        results |= run.means.take_since_evaluation()
        # Logged first: what is killed before it has saved drops the line when it goes on, and writes it again.
        progress.evaluated(step, time.monotonic() - started, results)
        selection = selection.after(step, results["top_1_accuracy"])
        saving.save(step, selection)
        if selection.should_stop(patience):
            break
    progress.finished(results, selection, early=step < run.schedule.total_steps)
    if run.data.minival:
        results = _validate_best(run)
        progress.chosen(selection.best_step, results)
    return results


def _evaluated(state: State, config: Config) -> dict[str, keras.Model]:
    """The average, by which a run is judged, and the weights themselves where they are something else."""
    return {"": state.average, "raw_": state.model} if config.train.moving_average_decay else {"": state.average}


def _end_again(run: _Run, evaluate: Callable[..., dict[str, float]]) -> dict[str, float]:
    """What there is to say of a run that has nothing left to do."""
    results = evaluate()
    selection = run.checkpoints.selection
    has_stopped = selection.should_stop(run.config.eval.early_stopping_patience)
    how = "stopped early" if has_stopped else "finished"
    flag = "--early_stopping_patience" if has_stopped else "--train_epochs"
    distribution.print_on_chief(run.strategy, f"this run has {how}: {summary(results)}; raise {flag} to train on")
    if run.data.minival:
        results = _validate_best(run)
        line = f"validation of the best checkpoint, step {selection.best_step}: {summary(results)}"
        distribution.print_on_chief(run.strategy, line)
    return results


def _validate_best(run: _Run) -> dict[str, float]:
    """The best checkpoint's average on the validation images. It takes the place of the last one in the state."""
    restore_average(run.state.average, run.config.run.model_dir, "best")
    return run.evaluator({"": run.state.average}, run.data.validation)()


def _require_even_shares(strategy: tf.distribute.Strategy, config: Config) -> None:
    """Refuses numbers of devices over which batches, batch norm's groups or pairs to mix do not divide, and parts to
    freeze that the network does not have.
    """
    distribution.per_replica_batch_size(config.train.train_batch_size, strategy, "train_batch_size")
    distribution.per_replica_batch_size(config.eval.eval_batch_size, strategy, "eval_batch_size")
    require_possible(strategy, configured_architecture(config.model, NUM_IMAGENET_CLASSES), config.train)
    needed = 2 * (bool(config.train.mixup_alpha) + bool(config.train.cutmix_alpha))
    if config.train.train_batch_size // strategy.num_replicas_in_sync < needed:
        raise UserError(
            f"--train_batch_size={config.train.train_batch_size}: leaves a device fewer than {needed} images, and "
            "mixup and cutmix without pairs. Use a larger batch or fewer devices."
        )


def evaluation_steps(total_steps: int, interval: float, step: int, selection: EarlyStopping) -> list[int]:
    """Steps at which to evaluate and save: multiples of `interval`, rounded up, and the last.

    Of these, those still to come at `step`, which itself is one if it has been saved but not evaluated.
    """
    count = math.ceil(total_steps / interval)
    steps = {min(total_steps, math.ceil(index * interval)) for index in range(1, count + 1)}
    return sorted(later for later in steps if later >= step and later > selection.evaluated_step)


def _introduce(
    config: Config,
    data: ImageData,
    model: keras.Model,
    architecture: Architecture,
    schedule: Schedule,
    devices: str,
    step: int,
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
    if train.gradient_accumulation_steps > 1:
        lines.append(f"each device takes its images in {train.gradient_accumulation_steps} micro-batches a step")
    if frozen := fine_tuning.introduction(model, train):
        lines.append(frozen)
    if train.moving_average_decay:
        lines.append(f"validated is the average of the weights (decay {train.moving_average_decay}): it lags at first")
    if step:
        lines.append(f"continuing from step {step:,}")
    print("\n".join(lines), flush=True)
