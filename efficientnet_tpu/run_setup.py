"""Everything a run is made of before its first step: devices, lock, data, network, restored state, summary."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.config.profile_steps import read_profile_steps
from efficientnet_tpu.data import validation_scan
from efficientnet_tpu.data.cache.cache_place import IN_MEMORY
from efficientnet_tpu.data.cache.open_cache import CacheRequest, cache_advice, with_caches
from efficientnet_tpu.data.datasets import open_data
from efficientnet_tpu.data.input_pipeline import train_batches
from efficientnet_tpu.data.preprocessing import make_preparation, make_train_image
from efficientnet_tpu.data.sources.labelled_files import default_percent
from efficientnet_tpu.data.split import ImageData, Split
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.fitting_batch import (
    changes_for_memory,
    memory_for_cache,
    with_batch_that_memory_holds,
    with_even_batch,
    with_filled_batch,
)
from efficientnet_tpu.hardware import distribution, library_messages
from efficientnet_tpu.hardware.preemption import StopRequest, stop_requests
from efficientnet_tpu.models import complexity
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Architecture
from efficientnet_tpu.models.configured import configured_architecture, configured_variant
from efficientnet_tpu.run import run_record
from efficientnet_tpu.run.checkpoint import Checkpoints
from efficientnet_tpu.run.checkpoint_names import newest
from efficientnet_tpu.run.checkpoint_schedule import CheckpointSchedule
from efficientnet_tpu.run.early_stopping import evaluation_steps, watched_split
from efficientnet_tpu.run.reports.course import Course
from efficientnet_tpu.run.reports.measurement import Measurement, describe_measurement
from efficientnet_tpu.run.reports.progress import Progress
from efficientnet_tpu.run.reports.rerun_flags import given_options
from efficientnet_tpu.run.reports.run_files import RunFiles
from efficientnet_tpu.run.tracking.run_pictures import RunPictures
from efficientnet_tpu.run.tracking.step_profiler import StepProfiler
from efficientnet_tpu.run.tracking.tensorboard import NUM_INPUTS, TensorBoard
from efficientnet_tpu.run.training_monitor import TrainingMonitor
from efficientnet_tpu.storage import directory_lock, presence
from efficientnet_tpu.texts.known_errors import explained_out_of_memory
from efficientnet_tpu.training import fine_tuning, short_run
from efficientnet_tpu.training.class_weights import describe_class_weights, read_class_weights
from efficientnet_tpu.training.learning_rate import Schedule, make_schedule, steps_per_epoch
from efficientnet_tpu.training.metrics import TrainMetrics
from efficientnet_tpu.training.train_step import State, make_state, require_possible
from efficientnet_tpu.weights.warm_start import start_from, with_normalization

TENSORFLOW_LOG = "tensorflow.log"  # in model_dir: what TensorFlow writes to stderr


@dataclass(frozen=True)
class Run:
    """A run that is ready to continue from `step`.

    record: what run.json holds of it once it goes on.
    class_weights: float32 [num_classes]; None where all classes count alike.
    """

    config: Config
    record: run_record.RunRecord
    strategy: tf.distribute.Strategy
    stop_request: StopRequest
    data: ImageData
    architecture: Architecture
    schedule: Schedule
    state: State
    metrics: TrainMetrics
    checkpoints: Checkpoints
    step: int
    class_weights: np.ndarray | None

    @property
    def evaluated_models(self) -> dict[str, keras.Model]:
        """The average, by which a run is judged, and the raw weights where the average is something else."""
        if self.config.train.moving_average_decay:
            return {"": self.state.average, "raw_": self.state.model}
        return {"": self.state.average}

    @property
    def evaluated_split(self) -> Split:
        """The minival images if there are any: the validation images are then left for the end of the run."""
        return self.data.minival or self.data.validation

    @property
    def measurement(self) -> Measurement:
        """The circumstances of the evaluations during training."""
        policy = distribution.precision_policy(self.config.hardware, self.strategy)
        watched = watched_split(self.config)
        return describe_measurement(self.config, self.architecture, watched, self.data.fingerprint, policy)

    @property
    def steps_per_epoch(self) -> float:
        """Steps of an epoch, not rounded."""
        return steps_per_epoch(self.data.train.num_images, self.config.train.batch_size)

    @functools.cached_property
    def evaluation_steps(self) -> list[int]:
        """Steps from `step` on at which to evaluate and save; none when the run has ended."""
        if self.stops_early():
            return []
        interval = self.config.eval.epochs_per_eval * self.steps_per_epoch
        return evaluation_steps(self.schedule.total_steps, interval, self.step, self.checkpoints.early_stopping)

    @property
    def ending(self) -> tuple[str, str]:
        """How the run ends, and the flag to raise that makes it go on."""
        return ("stopped early", "early_stopping_patience") if self.stops_early() else ("finished", "train_epochs")

    def stops_early(self) -> bool:
        """Returns whether --early_stopping_patience ends the run."""
        return self.checkpoints.early_stopping.should_stop(self.config.eval.early_stopping_patience)


@contextlib.contextmanager
def open_run(config: Config) -> Iterator[Run]:
    """Builds the run, restores its newest checkpoint and prints a summary.

    Within this context model_dir is locked, signals to stop and Ctrl-C are requests, and the loss of another host is a
    StoppedError.
    """
    strategy = distribution.connect(config.hardware)
    require_even_shares(strategy, with_even_batch(strategy, config))
    lock = directory_lock.held(config.run.model_dir) if distribution.is_chief(strategy) else contextlib.nullcontext()
    with distribution.explained_loss_of_host(strategy), lock, stop_requests() as stop_request:
        if config.output.verbose or presence.is_local(config.run.model_dir):
            log = os.path.join(config.run.model_dir, TENSORFLOW_LOG)
            library_messages.keep_in("-" if config.output.verbose else log)
        run = build_run(strategy, config, stop_request)
        with explained_out_of_memory(lambda: changes_for_memory(strategy, run.config, run.data)):
            yield run


def require_even_shares(strategy: tf.distribute.Strategy, config: Config) -> None:
    """Raises UserError where batches, groups of batch norm or pairs to mix do not divide over the devices, and where
    parts are to be frozen that the network does not have.
    """
    train_config = config.train
    distribution.per_replica_batch_size(train_config.batch_size, strategy, "train_batch_size")
    distribution.per_replica_batch_size(config.eval.eval_batch_size, strategy, "eval_batch_size")
    require_possible(strategy, configured_architecture(config.model, NUM_IMAGENET_CLASSES), train_config)
    needed = 2 * (bool(train_config.mixup_alpha) + bool(train_config.cutmix_alpha))
    if train_config.batch_size // strategy.num_replicas_in_sync < needed:
        raise UserError(
            f"--train_batch_size={train_config.batch_size}: leaves a device fewer than {needed} images, and "
            "mixup and cutmix without pairs. Use a larger batch or fewer devices."
        )


def make_monitor(run: Run, confusion: Callable[[], np.ndarray | None]) -> TrainingMonitor:
    """Builds the monitor of a run that goes on, writes run.json, and drops from the log what was not saved.

    confusion: see `RunPictures`.
    """
    files = None
    if distribution.is_chief(run.strategy):
        # Not before all is ready: a start that was refused, or that found nothing to train, is no part of the run.
        record = run_record.at_step(run.record, run.step)
        run_record.save(record)
        title = f"{run.architecture.name}, {len(record.label_names)} classes, {run.config.run.model_dir}"
        files = RunFiles(record, title, run.measurement)
    best = run.checkpoints.early_stopping
    course = Course(
        run.step,
        run.evaluation_steps,
        run.steps_per_epoch,
        run.config.train.batch_size,
        run.strategy.num_replicas_in_sync,
    )
    progress = Progress(run.config, run.architecture.num_classes, course, best, files)
    checkpoint_schedule = CheckpointSchedule(
        run.config, run.state, run.checkpoints, progress, run.stop_request, run.step
    )
    profiled = read_profile_steps(run.config.output.profile_steps) if files else None
    profiler = StepProfiler(run.config.run.model_dir, profiled)
    draw = _make_pictures(run, progress.tensorboard, confusion).on_evaluation if progress.tensorboard else _draw_nothing
    return TrainingMonitor(run.strategy, progress, checkpoint_schedule, run.metrics, run.schedule, profiler, draw)


def _draw_nothing(step: int) -> None:
    """Stands for the pictures on hosts that write none."""


def _make_pictures(run: Run, tensorboard: TensorBoard, confusion: Callable[[], np.ndarray | None]) -> RunPictures:
    config, size = run.config, run.architecture.resolution
    prepare = make_train_image(config.data, size, run.architecture.interpolation, run.data.train.is_reduced)

    def first_images() -> np.ndarray:
        batches = train_batches(run.data.train, prepare, NUM_INPUTS, config.run.seed)
        return next(iter(batches))[0].numpy()

    return RunPictures(
        tensorboard,
        run.state,
        watched_split(config),
        run.data.label_names,
        given_options(config),
        None if run.step else first_images,
        confusion,
    )


def build_run(strategy: tf.distribute.Strategy, config: Config, stop_request: StopRequest) -> Run:
    """Builds the run, restores its newest checkpoint and prints the summary.

    Raises UserError on hosts whose checkpoints, flags or images are not the chief's.
    """
    checkpoint = os.path.basename(newest(config.run.model_dir) or "")
    # Checkpoints first: a host that sees a run takes that run's options.
    distribution.require_same(strategy, checkpoint, f"--model_dir={config.run.model_dir}: the checkpoints are")
    distribution.require_same_run(strategy, config)
    data = run_record.with_classes_of_run(open_data(config.data), config)
    distribution.require_same(strategy, data.fingerprint, f"{config.data.source}: the images are")
    data.require_pixels(configured_variant(config.model).resolution, config.data.source)
    config, batch_notes = _with_fitting_batch(strategy, config, data)
    fine_tuning.require_weights(config.train, has_weights=bool(config.train.init_from or checkpoint))
    if not checkpoint:
        config = with_normalization(config)
    config, batch_norm_note = _with_bn_mode(config, data, checkpoint)
    config, course_notes = short_run.fitted(_with_held_out_share(config, data), data.train.num_images)
    class_weights = read_class_weights(config.train.class_weights, data)
    distribution.require_same(strategy, str(class_weights), f"--class_weights={config.train.class_weights}: they are")
    record = run_record.prepare(run_record.describe(config, data))
    architecture = configured_architecture(config.model, len(data.label_names))
    schedule = make_schedule(config.train, data.train.num_images)
    data, cache_notes = _with_caches(strategy, config, data, architecture)
    if config.eval.validation_scan:
        size, interpolation = architecture.resolution, architecture.interpolation
        preparation = make_preparation(config.data, size, interpolation, data.validation.is_reduced)
        evaluated = {"minival": data.minival, "validation": data.validation}
        validation_scan.require_readable(strategy, evaluated, preparation, config.data.source)
    state = make_state(strategy, architecture, config, schedule)
    metrics, checkpoints, step, warm_start_note = _restore(strategy, config, state, checkpoint, data.label_names)
    run = Run(
        config=config,
        record=record,
        strategy=strategy,
        stop_request=stop_request,
        data=data,
        architecture=architecture,
        schedule=schedule,
        state=state,
        metrics=metrics,
        checkpoints=checkpoints,
        step=step,
        class_weights=class_weights,
    )
    run, changes_note = _with_changes(run)
    if distribution.is_chief(strategy):
        class_weights_note = describe_class_weights(config.train.class_weights, class_weights, data.label_names)
        course_notes = [] if checkpoint else course_notes
        notes = (changes_note, *batch_notes, *course_notes, warm_start_note, batch_norm_note, class_weights_note)
        notes += tuple(cache_notes)
        print("\n".join([*filter(None, notes), *summary_lines(run)]), flush=True)
    return run


def _with_caches(
    strategy: tf.distribute.Strategy, config: Config, data: ImageData, architecture: Architecture
) -> tuple[ImageData, list[str]]:
    """Returns the data with what --cache keeps of them, and lines about it; or a line on what it would do.

    Raises UserError on all hosts where one of them has no room.
    """
    preparation = make_preparation(config.data, architecture.resolution, architecture.interpolation)
    place, area, source = config.hardware.cache, config.data.crop_min_area, config.data.source
    request = CacheRequest(place, preparation, area, source)
    if not place:
        advice = cache_advice(data.train, request) if config.train.train_epochs > 1 else ""
        return data, [*filter(None, [advice])]
    if place == IN_MEMORY:
        request = dataclasses.replace(request, memory=memory_for_cache(strategy, config, data))
    # Test images are not looked at while training.
    splits = {name: split for name, split in data.splits.items() if name != "test"}
    problem: UserError | None = None
    notes: list[str] = []
    try:
        cached, notes = with_caches(splits, request)
        data = dataclasses.replace(data, **cached)
    except UserError as error:
        problem = error
    if distribution.any_host(strategy, problem is not None):
        raise problem or UserError(f"--cache={place}: another host cannot keep its pictures.")
    return data, notes


def _with_changes(run: Run) -> tuple[Run, str]:
    """Returns the run, and a line about its options that are not those of run.json, "" without any.

    A run that has ended has the options it was trained with, whatever was given now.
    """
    model_dir = run.config.run.model_dir
    if not run_record.has_run(model_dir):
        return run, ""
    stored = run_record.load(model_dir).config
    changes = run_record.changed_options(stored, run.record.config)
    if not changes:
        return run, ""
    if run.evaluation_steps:
        return run, run_record.describe_changes(changes, run.step)
    place = {"data_dir": run.config.data.data_dir, "dataset": run.config.data.dataset}
    trained = dataclasses.replace(run.config, model=stored.model, train=stored.train, data=stored.data)
    given = ", ".join(f"--{name}={now}" for name, (_, now) in changes.items())
    line = f"{given}: change{'s' * (len(changes) == 1)} nothing in the run, which has {run.ending[0]}"
    return dataclasses.replace(run, config=with_options(trained, place)), line


def _with_fitting_batch(strategy: tf.distribute.Strategy, config: Config, data: ImageData) -> tuple[Config, list[str]]:
    """Returns the config with batches that the images fill and the memory holds, and lines on what was changed."""
    asked = config
    config, note = with_filled_batch(strategy, config, data.train.num_images)
    config, notes = with_batch_that_memory_holds(strategy, config, data, asked)
    if note or notes:
        require_even_shares(strategy, config)
    return config, [*filter(None, [note]), *notes]


def _restore(
    strategy: tf.distribute.Strategy, config: Config, state: State, checkpoint: str, label_names: Sequence[str]
) -> tuple[TrainMetrics, Checkpoints, int, str]:
    """Fills the state from the newest checkpoint, or the state of a new run from --init_from.

    Returns the metrics, the checkpoints, the step and a line about --init_from, "" without it.
    """
    metrics = TrainMetrics(state)
    # These names are keys of the object graph in every checkpoint: old runs are restored by them.
    tracked = {"model": state.model, "average": state.average, "optimizer": state.optimizer, "means": metrics.variables}
    checkpoints = Checkpoints(config.run.model_dir, tracked, config.train.keep_checkpoints, strategy)
    step = checkpoints.restore()
    note = ""
    if config.train.init_from and not checkpoint:
        note = start_from(config.train.init_from, state.model, state.average, config, label_names)
    metrics.start()
    return metrics, checkpoints, step, note


def _with_bn_mode(config: Config, data: ImageData, checkpoint: str) -> tuple[Config, str]:
    """Returns the config with a --bn_mode in place of auto, and a line with the reason.

    A run keeps the mode it began with.
    """
    if config.train.bn_mode != "auto":
        return config, ""
    if checkpoint and run_record.has_run(config.run.model_dir):
        bn_mode, note = run_record.load(config.run.model_dir).config.train.bn_mode, ""
    else:
        bn_mode, note = fine_tuning.choose_batch_norm(config, data.train.num_images)
    return with_options(config, {"bn_mode": bn_mode}), note


def _with_held_out_share(config: Config, data: ImageData) -> Config:
    """Returns the config with the share of `data` that was held out: the run keeps it when its images become more."""
    if config.data.validation_percent is not None:
        return config
    num_images = sum(split.num_images for name, split in data.splits.items() if name in ("train", *data.held_out))
    return with_options(config, {"validation_percent": default_percent(num_images)})


def summary_lines(run: Run) -> list[str]:
    """Returns lines that say what is about to be done, printed before anything slow starts."""
    architecture, config, data = run.architecture, run.config, run.data
    cost, train_config = complexity.count(architecture), config.train
    lines = [
        f"{architecture.name}: {cost.trainable_params:,} parameters, {cost.multiply_adds:,} multiply-adds at "
        f"{architecture.resolution} x {architecture.resolution}, {len(data.label_names)} classes",
        f"{data.train.num_images:,} training, {data.validation.num_images:,} validation images: {config.data.source}"
        + (f"; {data.minival.num_images:,} held out of training to choose by" if data.minival else ""),
        f"{train_config.train_epochs:g} epochs, {run.schedule.total_steps:,} steps of {train_config.batch_size} "
        f"images on {distribution.describe(run.strategy)}",
        f"everything goes to {config.run.model_dir}",
    ]
    if emulation := distribution.describe_emulation(config.hardware, run.strategy):
        lines.append(emulation)
    if train_config.gradient_accumulation_steps > 1:
        lines.append(f"each device takes its images in {train_config.gradient_accumulation_steps} micro-batches a step")
    if frozen := fine_tuning.describe_frozen(run.state.model, train_config):
        lines.append(frozen)
    if decay := train_config.moving_average_decay:
        lines.append(f"validated is the average of the weights (decay {decay}): it lags at first")
    if run.step:
        lines.append(f"continuing from step {run.step:,}")
    return lines
