"""The stages of this project's training input: CPU time that each takes of an image. See README.md.

    python benchmarks/input_stages.py --data_dir=FOLDER

Pipelines that end after one stage more each run in one process, in turns: A B C A B C. A stage's time is the difference
from the pipeline that ends before it.
"""

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf
from peers.ours import set_up_threads, training_batches

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.augment.autoaugment import find_policy, make_draw_calls
from efficientnet_tpu.data.datasets import open_data
from efficientnet_tpu.data.decoding.image_format import Window, jpeg_shape
from efficientnet_tpu.data.preprocessing import Preparation, make_preparation, train_image, train_window

_DRAINED_BATCHES = 6  # of which some are prepared ahead: two, and those that the map has begun
_IDLE_SECONDS = 0.005  # of CPU, in a fifth of a second
Prepare = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints a table."""
    options = _parse(arguments)
    set_up_threads()
    config = DataConfig(data_dir=options.data_dir, augment=options.augment, validation_percent=1)
    split = open_data(config).train
    pipelines = {
        name: training_batches(config, prepare, options.batch_size, split)
        for name, prepare in stages(config, options.size).items()
    }
    for batches in pipelines.values():
        next(batches)
    _wait_for_rest()
    times: dict[str, list[float]] = {name: [] for name in pipelines}
    for number in range(options.rounds):
        print(f"round {number + 1}: load average {os.getloadavg()[0]:.1f}", flush=True)
        for name, batches in pipelines.items():
            times[name].append(_cpu_ms(batches, options.batches, options.batch_size))
    print(table(times))


def stages(config: DataConfig, size: int) -> dict[str, Prepare]:
    """Returns preparations of an image, each with one stage more than the one before it."""
    preparation = make_preparation(config, size, "bicubic")
    window = functools.partial(train_window, preparation=preparation, crop_min_area=config.crop_min_area)
    drawn = functools.partial(window, preparation=_CropOnly(**vars(preparation)))
    resized = functools.partial(
        train_image, preparation=preparation, crop_min_area=config.crop_min_area, flip=config.horizontal_flip
    )
    of_stages: dict[str, Prepare] = {
        "order, reading the file, batches": lambda encoded, seed: tf.cast(
            tf.strings.length(encoded) + seed[1:], tf.uint8
        ),
        "header, drawing the crop": lambda encoded, seed: tf.cast(drawn(encoded, seed), tf.uint8),
        "decoding the crop": lambda encoded, seed: window(encoded, seed)[0, 0],
        "resizing, mirroring": lambda encoded, seed: resized(encoded, seed)[0, 0],
    }
    policy = find_policy(config, size)
    whole = functools.partial(
        resized, draw_calls=make_draw_calls(policy, size, config.augment_semantics) if policy else None
    )
    if policy:
        of_stages["augmentation policy"] = lambda encoded, seed: whole(encoded, seed)[0, 0]
    return of_stages | {"batches of whole images": whole}


class _CropOnly(Preparation):
    """A preparation that does not decode."""

    def window(self, encoded: tf.Tensor, choose_window: Window) -> tf.Tensor:
        """Returns the crop itself, of a JPEG: string scalar -> int32 [4]."""
        return choose_window(jpeg_shape(encoded))


def table(times: dict[str, list[float]]) -> str:
    """Returns Markdown: of each stage and of all up to it, CPU milliseconds an image; medians over the rounds."""
    lines = ["| stage | CPU ms/image (min-max) | with those before |", "|---|---|---|"]
    before = [0.0] * len(next(iter(times.values())))
    for name, its in times.items():
        alone = [more - less for more, less in zip(its, before, strict=True)]
        spread = f"{statistics.median(alone):.2f} ({min(alone):.2f}-{max(alone):.2f})"
        lines.append(f"| {name} | {spread} | {statistics.median(its):.2f} |")
        before = its
    return "\n".join(lines)


def _cpu_ms(batches: Iterator[tf.Tensor], num_batches: int, batch_size: int) -> float:
    """Measures batches after those that were ready before: queues are empty then, and at the end."""
    for _ in range(_DRAINED_BATCHES):
        next(batches)
    started = time.process_time()
    for _ in range(num_batches):
        next(batches)
    cpu_seconds = time.process_time() - started
    _wait_for_rest()
    return 1e3 * cpu_seconds / (num_batches * batch_size)


def _wait_for_rest() -> None:
    """Waits until the pipeline has filled its queues again, which would be counted with the next one."""
    used, before = time.process_time(), -1.0
    while used - before > _IDLE_SECONDS:
        time.sleep(0.2)
        used, before = time.process_time(), used


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data_dir", required=True, help="JPEG files, a folder for each class: FOLDER/<class>/*.jpg")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--augment", choices=("autoaugment", "randaugment", "none"), default="autoaugment")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=16, help="measured of each pipeline in each round")
    options = parser.parse_args(arguments)
    for name in ("size", "batch_size", "rounds", "batches"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name}={getattr(options, name)}: must be above 0")
    return options


if __name__ == "__main__":
    main()
