"""Converts an image folder to TFRecord shards in the layout of ImageNet. See `tfrecord_layout` for names and keys.

A record holds the file's bytes, unchanged, and the label: class names are in dataset.json, file names nowhere, so that
the shards are hardly larger than the images.
"""

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import tensorflow as tf

from efficientnet_tpu.config import Config, UserError
from efficientnet_tpu.data import image_folder
from efficientnet_tpu.data.image_folder import Example
from efficientnet_tpu.data.tfrecord_layout import (
    DATASET_JSON,
    ENCODED_KEY,
    LABEL_KEY,
    DatasetInfo,
    SplitInfo,
    shard_name,
)
from efficientnet_tpu.progress import duration

Result = TypeVar("Result")

_THREADS = 16  # hides the latency of gs://; the CPU's share is decoding, which TensorFlow does outside Python's lock
_AT_ONCE = 256  # images in flight, which bounds the memory
_SECONDS_BETWEEN_LINES = 5.0


def convert_folder(config: Config) -> None:
    """`main.py make-tfrecords`: writes output_dir whole, or not at all.

    The shards are written beside output_dir and renamed at the end; dataset.json, written last, marks them complete.
    """
    output_dir = _check_output_dir(config.output.output_dir, config.data.data_dir)
    folder = image_folder.scan(config.data.data_dir, config.data.validation_percent)
    for examples in folder.splits.values():
        image_folder.check_readable(examples)
    num_shards = {"train": config.output.train_shards, "validation": config.output.validation_shards}
    partial_dir = f"{output_dir}.partial-{os.getpid()}"
    try:
        tf.io.gfile.makedirs(partial_dir)
        skipped: list[str] = []
        splits = {}
        for split, examples in folder.splits.items():
            decodable = _decodable(split, examples, skipped)
            _check_classes(split, decodable, folder.label_names, config.data.data_dir)
            random.Random(config.run.seed).shuffle(decodable)
            splits[split] = _write_split(partial_dir, split, decodable, num_shards[split])
        info = DatasetInfo(folder.label_names, splits)
        with tf.io.gfile.GFile(_join(partial_dir, DATASET_JSON), "w") as file:
            file.write(info.to_json())
        _publish(partial_dir, output_dir)
    except tf.errors.OpError as error:
        raise UserError(f"--output_dir={output_dir}: cannot be written: {error.message}") from error
    finally:
        with contextlib.suppress(tf.errors.OpError):  # renamed, or never made
            tf.io.gfile.rmtree(partial_dir)
    _print_summary(output_dir, info, skipped)


def _check_output_dir(output_dir: str, data_dir: str) -> str:
    """output_dir without a trailing slash. Raises UserError unless it is new or empty, and outside the images."""
    output_dir, data_dir = _absolute(output_dir), _absolute(data_dir)
    if (output_dir + "/").startswith(data_dir + "/"):
        raise UserError(f"--output_dir={output_dir}: is inside --data_dir={data_dir}. Choose a directory beside it.")
    try:
        exists = tf.io.gfile.exists(output_dir)
    except tf.errors.OpError as error:  # gs://: no network, no permission
        raise UserError(f"--output_dir={output_dir}: cannot be reached: {error.message}") from error
    if not exists:
        return output_dir
    if not tf.io.gfile.isdir(output_dir):
        raise UserError(f"--output_dir={output_dir}: is a file. Choose a new directory.")
    if tf.io.gfile.listdir(output_dir):
        raise UserError(f"--output_dir={output_dir}: is not empty. Choose a new directory, or empty this one.")
    return output_dir


def _decodable(split: str, examples: Sequence[Example], skipped: list[str]) -> list[Example]:
    """The examples whose image decodes; the paths of the others go to `skipped`.

    A pass of its own before the writing, because the sizes and the number of the shards follow from the count.
    """
    kept = []
    progress = _Progress(f"{split}: checked", len(examples))
    for example, decodes in zip(examples, _in_parallel(_decodes, examples), strict=True):
        if decodes:
            kept.append(example)
        else:
            skipped.append(example[0])
        progress.advance()
    return kept


def _check_classes(split: str, examples: Sequence[Example], label_names: Sequence[str], data_dir: str) -> None:
    labels = {label for _, label in examples}
    for label, name in enumerate(label_names):
        if split == "train" and label not in labels:
            raise UserError(f"--data_dir={data_dir}: no training image of the class {name} decodes.")
    if not labels:
        raise UserError(f"--data_dir={data_dir}: no {split} image decodes.")


def _write_split(directory: str, split: str, examples: Sequence[Example], num_shards: int) -> SplitInfo:
    """Writes the examples in this order, dealt like cards: the sizes of the shards differ by at most one."""
    num_shards = min(num_shards, len(examples))
    shards = []
    progress = _Progress(f"{split}: written", len(examples))
    for index in range(num_shards):
        part = examples[index::num_shards]
        name = shard_name(split, index, num_shards)
        with tf.io.TFRecordWriter(_join(directory, name)) as writer:
            for (_, label), encoded in zip(part, _in_parallel(_read, part), strict=True):
                writer.write(_record(encoded, label))
                progress.advance()
        shards.append((name, len(part)))
    return SplitInfo(len(examples), tuple(shards))


def _record(encoded: bytes, label: int) -> bytes:
    """A serialized tf.train.Example of an image's bytes and its 0-based label."""
    features = {
        ENCODED_KEY: tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
        LABEL_KEY: tf.train.Feature(int64_list=tf.train.Int64List(value=[label + 1])),
    }
    # Deterministic: the same folder and seed give the same bytes.
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def _in_parallel(function: Callable[[Example], Result], examples: Sequence[Example]) -> Iterator[Result]:
    """function(example) of every example, in order."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(examples), _AT_ONCE):
            yield from pool.map(function, examples[start : start + _AT_ONCE])


def _read(example: Example) -> bytes:
    path, _ = example
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise UserError(f"--data_dir: {path} cannot be read: {error.message}") from error


def _decodes(example: Example) -> bool:
    try:
        tf.io.decode_image(_read(example), channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError:
        return False
    return True


def _publish(partial_dir: str, output_dir: str) -> None:
    """Renames the finished directory to output_dir."""
    if "://" not in output_dir:
        tf.io.gfile.rename(partial_dir, output_dir, overwrite=True)  # replaces an empty directory
        return
    # An object store renames one object at a time: dataset.json comes last here too.
    names = sorted(tf.io.gfile.listdir(partial_dir), key=lambda name: (name == DATASET_JSON, name))
    for name in names:
        tf.io.gfile.rename(_join(partial_dir, name), _join(output_dir, name))


def _absolute(path: str) -> str:
    return path.rstrip("/") if "://" in path else os.path.abspath(path)


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}"


class _Progress:
    """Prints a line every few seconds: images done, images per second, time left."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._start = self._last_line = time.monotonic()

    def advance(self) -> None:
        """One image more."""
        self._done += 1
        now = time.monotonic()
        if now - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        rate = self._done / (now - self._start)
        left = duration((self._total - self._done) / rate)
        print(f"{self._what} {self._done:,}/{self._total:,} images  {rate:,.0f} images/s  {left} to go", flush=True)


def _print_summary(output_dir: str, info: DatasetInfo, skipped: Sequence[str]) -> None:
    total_bytes = 0
    for split, split_info in info.splits.items():
        split_bytes = sum(tf.io.gfile.stat(_join(output_dir, name)).length for name, _ in split_info.shards)
        total_bytes += split_bytes
        print(f"{split}: {split_info.num_images:,} images in {len(split_info.shards)} shards, {split_bytes:,} bytes")
    num_images = sum(split.num_images for split in info.splits.values())
    print(f"{output_dir}: {num_images:,} images of {len(info.label_names)} classes, {total_bytes:,} bytes")
    if skipped:
        print(f"skipped {len(skipped)} files that do not decode:")
        for path in skipped[:10]:
            print(f"  {path}")
        if len(skipped) > 10:
            print(f"  and {len(skipped) - 10} more")
