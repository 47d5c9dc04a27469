"""Training steps on one batch in memory, as training compiles them: no file is read, nothing is logged or saved."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from efficientnet_tpu.config.config import Config, with_options
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.models.configured import configured_architecture
from efficientnet_tpu.speed.timings import Timing, measure
from efficientnet_tpu.training.learning_rate import Schedule, make_schedule
from efficientnet_tpu.training.train_step import State, make_state, make_train_loop, make_train_step

NUM_IMAGES = 1_281_167  # ImageNet's, by which the schedule is made


def begin(config: Config, num_classes: int) -> tuple[tf.distribute.Strategy, Schedule, State]:
    """Makes what a training has before its first step."""
    strategy = distribution.connect(config.hardware)
    schedule = make_schedule(config.train, NUM_IMAGES)
    architecture = configured_architecture(config.model, num_classes)
    return strategy, schedule, make_state(strategy, architecture, config, schedule)


def batch(batch_size: int, size: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws images, uint8 [batch, size, size, 3], and labels, int32 [batch]."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (batch_size, size, size, 3), np.uint8)
    return images, draw.integers(0, num_classes, batch_size, np.int32)


def measure_steps(options: dict[str, Any], batch_size: int, seconds: float) -> Timing:
    """Times steps of `batch_size` images over all devices, each to its end. options: by flag name."""
    started = time.monotonic()
    config = with_options(Config(), options | {"train_batch_size": batch_size})
    strategy, _, state = begin(config, NUM_IMAGENET_CLASSES)
    loop = make_train_loop(strategy, make_train_step(state, config.train, 0, strategy.num_replicas_in_sync))
    size = configured_architecture(config.model, NUM_IMAGENET_CLASSES).resolution
    data = tf.data.Dataset.from_tensors(batch(batch_size, size, NUM_IMAGENET_CLASSES)).repeat()
    iterator, one = iter(strategy.experimental_distribute_dataset(data)), tf.constant(1)
    name, device_peak = _device()
    return measure(name, batch_size, lambda: float(loop(iterator, one)), seconds, started, device_peak)


def _device() -> tuple[str, Callable[[], int]]:
    """Returns the kind of device that trains, and a function of the bytes that the first of them held at most."""
    found = [(kind, tf.config.list_logical_devices(kind)) for kind in ("TPU", "GPU")]
    kind, devices = next((pair for pair in found if pair[1]), ("CPU", []))
    if not devices:
        return kind, lambda: 0
    return f"{len(devices)} x {kind}", lambda: _peak(f"{kind}:0")


def _peak(device: str) -> int:
    try:
        return int(tf.config.experimental.get_memory_info(device)["peak"])
    except (ValueError, NotImplementedError, tf.errors.OpError):  # of a TPU it is not told
        return 0
