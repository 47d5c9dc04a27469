"""This project's training: the loop of train.py without evaluations and checkpoints."""

import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from peers.registry import TrainSettings
from peers.train_batch import EMA_DECAY, NUM_CLASSES, NUM_IMAGES, batch

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.run.early_stopping import EarlyStopping
from efficientnet_tpu.run.reports.course import Course
from efficientnet_tpu.run.reports.measurement import describe_measurement
from efficientnet_tpu.run.reports.progress import Progress
from efficientnet_tpu.run.reports.run_files import RunFiles
from efficientnet_tpu.run.run_record import RunRecord
from efficientnet_tpu.speed import training_steps
from efficientnet_tpu.training.learning_rate import Schedule, learning_rate
from efficientnet_tpu.training.metrics import TrainMetrics
from efficientnet_tpu.training.train_step import State, make_train_loop, make_train_step


def build(settings: TrainSettings) -> tuple[str, Iterator[np.ndarray]]:
    """Every line that training would write is written."""
    config, strategy, schedule, state = begin(settings)
    step = make_train_step(state, config.train, 0, strategy.num_replicas_in_sync)
    run = make_run(settings, config, strategy, schedule, state, step)
    return "as train.py", (np.float32(run()) for _ in itertools.repeat(None))


def begin(settings: TrainSettings) -> tuple[Config, tf.distribute.Strategy, Schedule, State]:
    """What train.py makes before it trains."""
    options = {
        "model": settings.model,
        "train_batch_size": settings.batch_size,
        "moving_average_decay": EMA_DECAY if settings.ema else 0.0,
        "intra_op_threads": settings.workers,
        "model_dir": settings.folder,
    }
    config = with_options(Config(), options)
    return config, *training_steps.begin(config, NUM_CLASSES)


def make_run(
    settings: TrainSettings,
    config: Config,
    strategy: tf.distribute.Strategy,
    schedule: Schedule,
    state: State,
    train_step: Callable[..., None],
) -> Callable[[], float]:
    """A function that makes `settings.steps` steps, reports them, and returns their mean loss."""
    course = Course(0, [schedule.total_steps], NUM_IMAGES / settings.batch_size, settings.batch_size)
    architecture = configured_architecture(config.model, NUM_CLASSES)
    measurement = describe_measurement(config, architecture, "validation", "", "float32")
    files = RunFiles(RunRecord(config, (), "", NUM_IMAGES, ()), "", measurement)
    progress = Progress(config, NUM_CLASSES, course, EarlyStopping(), files)
    metrics, loop = TrainMetrics(state), make_train_loop(strategy, train_step)
    batches = tf.data.Dataset.from_tensors(batch(settings)).repeat()
    iterator = iter(strategy.experimental_distribute_dataset(batches))
    made = 0

    def run() -> float:
        nonlocal made
        started = time.monotonic()
        waited = float(loop(iterator, tf.constant(settings.steps)))
        made += settings.steps
        values = metrics.take() | {"learning_rate": float(learning_rate(schedule, made - 1))}
        progress.on_steps(made, settings.steps, time.monotonic() - started, waited, values)
        return values["loss"]

    return run
