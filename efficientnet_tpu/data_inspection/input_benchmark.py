"""`main.py benchmark input`: the cost of the input pipeline's stages, and which accelerators it can feed.

Runs the training stream cut short after each of its stages, then whole. A stage's cost is what it adds to the CPU time
of those before it: CPU time hardly depends on other programs, images a second do.
"""

import dataclasses
import functools
import os
import resource
import sys
import time

import tensorflow as tf

from efficientnet_tpu.config.config import Config
from efficientnet_tpu.data.datasets import open_data
from efficientnet_tpu.data.input_pipeline import TrainImage, explained_errors, train_batches
from efficientnet_tpu.data.preprocessing import make_preparation, make_train_image, train_window
from efficientnet_tpu.data.skip_unreadable import SkippedImages
from efficientnet_tpu.data.split import SINGLE_HOST, Split
from efficientnet_tpu.data.unreadable_log import UnreadableImages
from efficientnet_tpu.data_inspection import input_report
from efficientnet_tpu.data_inspection.accelerator_throughput import training_speeds
from efficientnet_tpu.data_inspection.input_report import AUGMENT, BATCH, DECODE, READ, RESIZE, Machine, StageTime
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.models.configured import configured_architecture

SECONDS_PER_STAGE = 5.0
# Before that, the pipeline sets its number of threads, and images that were prepared in advance are used up.
_WARM_UP = 0.5  # share of SECONDS_PER_STAGE


def benchmark_input(config: Config) -> None:
    """Measures stage by stage and prints the report."""
    load_average = os.getloadavg()[0]
    # Threads as beside an accelerator, whose host only prepares images. No accelerator is needed.
    threads = config.hardware.intra_op_threads or 1
    distribution.connect(dataclasses.replace(config.hardware, tpu="none", virtual_replicas=0, intra_op_threads=threads))
    data = open_data(config.data)
    architecture = configured_architecture(config.model, len(data.label_names))
    memory_before = _peak_memory()
    stages = prepare_stages(config, architecture.resolution, architecture.interpolation)
    batch_size = config.train.batch_size
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
    # Those that this process may use, where the system tells.
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    machine = Machine(num_cores, load_average, _peak_memory(), memory_before)
    speeds = training_speeds(config, architecture)
    text = input_report.report(times, machine, architecture, speeds, data.train.num_images, batch_size)
    print("\n" + text, flush=True)


def prepare_stages(config: Config, size: int, interpolation: str = "bicubic") -> dict[str, TrainImage]:
    """Returns, for each stage, the function that prepares an image up to it.

    All but the last return one number of the image, so that no batches of images are made.
    """
    plain = make_train_image(dataclasses.replace(config.data, augment="none"), size, interpolation)
    preparation = make_preparation(config.data, size, interpolation)
    decoded = functools.partial(train_window, preparation=preparation, crop_min_area=config.data.crop_min_area)
    whole = make_train_image(config.data, size, interpolation)
    stages = {
        READ: lambda encoded, seed: tf.strings.length(encoded),
        DECODE: _without_pixels(decoded),
        RESIZE: _without_pixels(plain),
    }
    if config.data.augment != "none":
        stages[AUGMENT] = _without_pixels(whole)
    return {**stages, BATCH: whole}


def measure(name: str, split: Split, prepare: TrainImage, config: Config, unreadable: UnreadableImages) -> StageTime:
    """Measures the training stream with `prepare`, from the run's first image on, after a warm-up."""
    missing = SkippedImages(split, config.run.seed, unreadable)
    batch_size = config.train.batch_size
    with explained_errors(config.data.source, missing.report):
        start = time.monotonic()
        note = missing.recorder(SINGLE_HOST)
        batches = iter(train_batches(split, prepare, batch_size, config.run.seed, on_skipped=note))
        next(batches)
        warm = time.monotonic()
        first_batch_seconds = warm - start
        while time.monotonic() - warm < SECONDS_PER_STAGE * _WARM_UP:
            next(batches)
        start, cpu_start, num_batches = time.monotonic(), _cpu_seconds(), 0
        while not num_batches or time.monotonic() - start < SECONDS_PER_STAGE:
            next(batches)
            num_batches += 1
        seconds, cpu_seconds = time.monotonic() - start, _cpu_seconds() - cpu_start
    missing.report()
    num_images = num_batches * batch_size
    return StageTime(name, num_images / seconds, 1000 * cpu_seconds / num_images, first_batch_seconds)


def _without_pixels(prepare: TrainImage) -> TrainImage:
    """Returns a function that prepares the whole image and returns one level of it."""
    return lambda encoded, seed: prepare(encoded, seed)[0, 0, 0]


def _cpu_seconds() -> float:
    """Returns the CPU time of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_memory() -> int:
    """Returns the most bytes that this process has had in memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
