"""Latency of one image, as in the paper's Table 4: batch 1, one core, the mean of 20 runs; on the user's machine."""

import os
import statistics
import time
from dataclasses import dataclass

import keras
import tensorflow as tf

from efficientnet_tpu.models.architecture import Architecture
from efficientnet_tpu.models.build import build_model

RUNS = 20
WARM_UP_RUNS = 3


@dataclass(frozen=True)
class Latency:
    """Seconds of one image, over the runs that counted."""

    mean: float
    median: float
    minimum: float
    runs: int


def use_one_core() -> str:
    """Keeps this process on one core, from now on; returns what that took, for people. Call it before any operation."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if hasattr(os, "sched_setaffinity"):
        core = min(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {core})
        return f"one thread, bound to core {core}"
    return "one thread; this system cannot bind it to a core"


def measure(model: keras.Model, resolution: int, runs: int) -> Latency:
    """Runs a compiled model on one float32 image of `resolution` pixels a side."""
    forward = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    images = tf.random.stateless_uniform((1, resolution, resolution, 3), (0, 0), maxval=255.0)
    seconds = []
    for run in range(WARM_UP_RUNS + runs):
        started = time.perf_counter()
        forward(images).numpy()
        if run >= WARM_UP_RUNS:
            seconds.append(time.perf_counter() - started)
    return Latency(statistics.mean(seconds), statistics.median(seconds), min(seconds), runs)


def measure_architecture(architecture: Architecture, runs: int) -> Latency:
    """Builds a network, randomly initialised, measures it, and forgets it."""
    model = build_model(architecture)
    try:
        return measure(model, architecture.resolution, runs)
    finally:
        keras.backend.clear_session()


def processor() -> str:
    """The name of this machine's processor, as Linux has it; elsewhere what the platform says."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
            return next(names, "unknown processor")
    except OSError:
        import platform

        return platform.processor() or "unknown processor"
