"""A process that measures one thing: `python -m efficientnet_tpu.speed.worker`. Its memory is that thing's alone.

It reads a task, JSON, from stdin, and writes answers to stdout, JSON, a line each: {"refused": text} where the user can
do something about it, and else what the task's function yields.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.speed.timings import measure

SEED = 0


def main() -> None:
    """Answers one task."""
    # Libraries print to stdout: what they print goes to stderr, the answers alone to where stdout was.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    task = json.load(sys.stdin)
    try:
        for answer in TASKS[task.pop("kind")](**task):
            print(json.dumps(answer), file=answers)
    except UserError as error:
        print(json.dumps({"refused": str(error)}), file=answers)


def infer(name: str, path: str, size: int, batch_sizes: list[int], seconds: float, threads: int) -> Iterator[Any]:
    """Yields the timings of a runtime on an exported model, by batch. size: side of its images, in pixels."""
    import numpy as np

    from efficientnet_tpu.speed.runtimes import RUNTIMES

    started = time.monotonic()
    call = RUNTIMES[name].load(path, threads)
    draw = np.random.default_rng(SEED)
    for batch_size in batch_sizes:
        images = draw.integers(0, 256, (batch_size, size, size, 3), np.uint8)
        yield asdict(measure(name, batch_size, lambda images=images: call(images), seconds, started))
        started = time.monotonic()


def export(options: dict[str, Any], forms: list[str], folder: str) -> Iterator[Any]:
    """Writes the network, or the run, that the options name into the folder, in several forms; yields the facts."""
    tensorflow_startup.import_tensorflow()
    from efficientnet_tpu.speed import exported_network

    yield exported_network.write(options, forms, folder)


def inspect(path: str, trust: bool) -> Iterator[Any]:
    """Yields the facts of what `export` wrote. Raises UserError for anything else, and for what is damaged."""
    tensorflow_startup.import_tensorflow()
    from efficientnet_tpu.speed import exported_network

    yield exported_network.inspect(path, trust)


def train(options: dict[str, Any], batch_size: int, seconds: float) -> Iterator[Any]:
    """Yields the timing of training steps of so many images."""
    tensorflow_startup.import_tensorflow()
    from efficientnet_tpu.speed import training_steps

    yield asdict(training_steps.measure_steps(options, batch_size, seconds))


TASKS = {"infer": infer, "export": export, "inspect": inspect, "train": train}

if __name__ == "__main__":
    main()
