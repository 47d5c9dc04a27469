"""The paper's Table 4, measured on this machine: the latency of one image on one core, the mean of 20 runs."""

import os
import statistics
import time
from dataclasses import dataclass

import keras
import tensorflow as tf

from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES, Architecture
from efficientnet_tpu.models.baselines import MODELS
from efficientnet_tpu.models.build import build_model
from efficientnet_tpu.models.scaling import scale
from efficientnet_tpu.paper import other_networks, published
from efficientnet_tpu.paper.paper_table import HERE, PAPER, Counted, PaperTable

RUNS = 20
WARM_UP_RUNS = 3


@dataclass(frozen=True)
class Latency:
    """The seconds for one image, over the runs after the warm-up."""

    mean: float
    median: float
    minimum: float
    runs: int


def use_one_core() -> str:
    """Binds this process to one core, and returns a text on how. Must be called before any operation of TensorFlow."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if hasattr(os, "sched_setaffinity"):
        core = min(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {core})
        return f"one thread, bound to core {core}"
    return "one thread; this system cannot bind it to a core"


def measure(model: keras.Model, resolution: int, runs: int) -> Latency:
    """Measures a compiled model on one image, float32 [1, resolution, resolution, 3], 0..255."""
    forward = tf.function(lambda images: model(images, training=False), reduce_retracing=True, autograph=False)
    images = tf.random.stateless_uniform((1, resolution, resolution, 3), (0, 0), maxval=255.0)
    seconds = []
    for run in range(WARM_UP_RUNS + runs):
        started = time.perf_counter()
        forward(images).numpy()
        if run >= WARM_UP_RUNS:
            seconds.append(time.perf_counter() - started)
    return Latency(statistics.mean(seconds), statistics.median(seconds), min(seconds), runs)


def measure_architecture(architecture: Architecture, runs: int) -> Latency:
    """Builds a network with random weights, measures it, and frees it."""
    model = build_model(architecture)
    try:
        return measure(model, architecture.resolution, runs)
    finally:
        keras.backend.clear_session()


def processor() -> str:
    """Returns the name of this machine's processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
            return next(names, "unknown processor")
    except OSError:
        import platform

        return platform.processor() or "unknown processor"


def table_4() -> PaperTable:
    """Measures EfficientNets and the networks they are compared with, and returns the table.

    It takes minutes, since B7 alone takes a core some seconds an image. It binds the process to one core.
    """
    core = use_one_core()
    rows: list[tuple[str | Counted, ...]] = []
    previous: Latency | None = None
    for row in published.read_rows("table4"):
        name = row["ours"]
        print(f"measuring {row['model']} ..." if name else f"{row['model']}: no public network", flush=True)
        if name in MODELS:
            found = measure_architecture(scale(name, MODELS[name], NUM_IMAGENET_CLASSES), RUNS)
        else:
            found = measure(other_networks.build(name), other_networks.RESOLUTIONS[name], RUNS) if name else None
        speed_ups: list[str | Counted] = ["", ""]
        if row["speed_up"] and previous and found:
            # Other work on the machine disturbs the fastest run less than the mean.
            ratios = previous.mean / found.mean, previous.minimum / found.minimum
            speed_ups = [Counted(ratio, f"{ratio:.1f}x") for ratio in ratios]
        rows.append((
            row["model"],
            row["top_1"],
            f"{row['seconds']} s",
            Counted(found.mean, f"{found.mean:.3f} s") if found else "",
            Counted(found.minimum, f"{found.minimum:.3f} s") if found else "",
            row["speed_up"],
            *speed_ups,
        ))  # fmt: skip
        previous = found
    columns = (
        ("model", ""), ("top-1", PAPER), ("mean", PAPER), ("mean", HERE), ("fastest", HERE), ("speed-up", PAPER),
        ("speed-up", HERE), ("of fastest", HERE),
    )  # fmt: skip
    notes = (
        f"Paper: one core of an Intel Xeon E5-2690, mean of {RUNS} runs. Here: {processor()}, {core}, "
        f"mean of {RUNS} runs after {WARM_UP_RUNS} that do not count, float32, tf.function.",
        "Speed-up: over the row above. GPipe's network is not public, so its second speed-up cannot be measured.",
    )
    return PaperTable("table4", "Table 4: inference latency of one image", columns, tuple(rows), notes)
