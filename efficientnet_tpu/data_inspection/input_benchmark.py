"""`main.py benchmark input`: where the input pipeline's time goes, and which accelerators it can feed.

The training stream is run cut short after each of its stages, then whole. What a stage adds to the CPU time of those
before it is its own; images a second depend on whatever else the machine does, CPU time hardly.
"""

import dataclasses
import functools
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator

import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.datasets import open_data
from efficientnet_tpu.data.input_pipeline import TrainImage, explained_errors, train_batches
from efficientnet_tpu.data.preprocessing import make_train_image, train_image
from efficientnet_tpu.data.skip_unreadable import SkippedImages
from efficientnet_tpu.data.split import SINGLE_HOST, Split
from efficientnet_tpu.data.unreadable_log import UnreadableImages
from efficientnet_tpu.data_inspection import input_report
from efficientnet_tpu.data_inspection.input_report import AUGMENT, BATCH, DECODE, READ, RESIZE, Machine, StageTime
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.models.configured import configured_architecture

SECONDS_PER_STAGE = 5.0
# Before that, the pipeline sets its number of threads, and what it had prepared when it was waited for is used up.
_WARM_UP = 0.5  # share of SECONDS_PER_STAGE


def benchmark_input(config: Config) -> None:
    """Measures stage by stage, and prints what it found."""
    load_average = os.getloadavg()[0]
    # As beside an accelerator, whose host only prepares images; none is needed here.
    threads = config.hardware.intra_op_threads or 1
    distribution.connect(dataclasses.replace(config.hardware, tpu="none", virtual_replicas=0, intra_op_threads=threads))
    data = open_data(config.data)
    architecture = configured_architecture(config.model, len(data.label_names))
    memory_before = _peak_memory()
    stages = stages_of(config, architecture.resolution)
    batch_size = config.train.train_batch_size
    print(
        f"input of {architecture.name} at {architecture.resolution} x {architecture.resolution}: {config.data.source}, "
        f"{data.train.num_images:,} training images, --augment={config.data.augment}, batches of {batch_size:,}\n"
        f"measuring {len(stages)} stages, about {SECONDS_PER_STAGE * (1 + _WARM_UP):.0f} s each",
        flush=True,
    )
    unreadable = UnreadableImages(None, config.data.max_unreadable_percent, data.train.num_images, config.data.source)
    times = []
    with tf.device("CPU:0"):
        for name, prepare in stages.items():
            times.append(measure(name, data.train, prepare, config, unreadable))
    machine = Machine(_num_cores(), load_average, _peak_memory(), memory_before)
    print("\n" + input_report.report(times, machine, architecture, data.train.num_images, batch_size), flush=True)


def stages_of(config: Config, size: int) -> dict[str, TrainImage]:
    """How far an image is prepared, stage by stage. Until the last, one number stands for it, so that no batches of
    images are made.
    """
    plain = make_train_image(dataclasses.replace(config.data, augment="none"), size)
    # Resized to one pixel, which is next to nothing, what is left is decoding and cropping.
    decoded = functools.partial(
        train_image, size=1, crop_min_area=config.data.crop_min_area, eval_crop_padding=0, flip=False
    )
    whole = make_train_image(config.data, size)
    stages = {
        READ: lambda encoded, seed: tf.strings.length(encoded),
        DECODE: _without_pixels(decoded),
        RESIZE: _without_pixels(plain),
    }
    if config.data.augment != "none":
        stages[AUGMENT] = _without_pixels(whole)
    return {**stages, BATCH: whole}


def measure(name: str, split: Split, prepare: TrainImage, config: Config, unreadable: UnreadableImages) -> StageTime:
    """Runs the training stream with `prepare`, from the run's first image on."""
    missing = SkippedImages(split, config.run.seed, unreadable)
    batch_size = config.train.train_batch_size

    def batches() -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        note = missing.recorder(SINGLE_HOST)
        return iter(train_batches(split, prepare, batch_size, config.run.seed, on_skipped=note))

    with explained_errors(config.data.source, missing.report):
        first_batch_seconds, num_batches, seconds, cpu_seconds = _run(batches)
    missing.report()
    num_images = num_batches * batch_size
    return StageTime(name, num_images / seconds, 1000 * cpu_seconds / num_images, first_batch_seconds)


def _run(batches: Callable[[], Iterator]) -> tuple[float, int, float, float]:
    """Seconds to the first batch; then, warmed up: batches, and the seconds and CPU seconds they took."""
    start = time.monotonic()
    iterator = batches()
    next(iterator)
    warm = time.monotonic()
    first_batch_seconds = warm - start
    while time.monotonic() - warm < SECONDS_PER_STAGE * _WARM_UP:
        next(iterator)
    start, cpu_start, num_batches = time.monotonic(), _cpu_seconds(), 0
    while not num_batches or time.monotonic() - start < SECONDS_PER_STAGE:
        next(iterator)
        num_batches += 1
    return first_batch_seconds, num_batches, time.monotonic() - start, _cpu_seconds() - cpu_start


def _without_pixels(prepare: TrainImage) -> TrainImage:
    """One level of the image, which cannot be had without preparing all of it."""
    return lambda encoded, seed: prepare(encoded, seed)[0, 0, 0]


def _num_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_seconds() -> float:
    """Of all threads of this process, so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_memory() -> int:
    """Bytes that this process had in memory at most, so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
