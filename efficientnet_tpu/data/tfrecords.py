"""Reading TFRecord shards in the layout of the reference's ImageNet: train-* and validation-*, with or without the
dataset.json that `make_tfrecords` writes beside them.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.config import UserError
from efficientnet_tpu.data.image_data import ImageData, Split, fingerprint, shuffle
from efficientnet_tpu.data.tfrecord_layout import (
    DATASET_JSON,
    ENCODED_KEY,
    IMAGENET_TRAIN_IMAGES,
    IMAGENET_TRAIN_SHARDS,
    IMAGENET_VALIDATION_IMAGES,
    IMAGENET_VALIDATION_SHARDS,
    LABEL_KEY,
    DatasetInfo,
    shard_name,
)

# Shards read at a time; the reference reads 64 of ImageNet's 1024.
PARALLEL_SHARDS = 16
NUM_IMAGENET_CLASSES = 1000
# Shards and images of the two splits of ImageNet, which carries no dataset.json.
IMAGENET = {
    "train": (IMAGENET_TRAIN_SHARDS, IMAGENET_TRAIN_IMAGES),
    "validation": (IMAGENET_VALIDATION_SHARDS, IMAGENET_VALIDATION_IMAGES),
}


@dataclass(frozen=True)
class _Contents:
    """Names of the classes, and the number of images of every split."""

    label_names: tuple[str, ...]
    num_images: dict[str, int]


def open_tfrecords(root: str, shuffle_buffer: int) -> ImageData:
    """TFRecord shards train-* and validation-*, keys and labels (from 1 on) as the reference's ImageNet has them."""
    shards = {split: _shards(root, split) for split in IMAGENET}
    contents = _contents(root, shards)
    splits = {split: _split(root, names, contents.num_images[split], shuffle_buffer) for split, names in shards.items()}
    counts = [f"{split} {number}" for split, number in contents.num_images.items()]
    identity = fingerprint([*contents.label_names, *shards["train"], *shards["validation"], *counts])
    return ImageData(contents.label_names, splits["train"], splits["validation"], identity)


def _split(root: str, names: Sequence[str], num_images: int, shuffle_buffer: int) -> Split:
    files = tf.constant([os.path.join(root, name) for name in names])

    def read(order: tf.Tensor | None) -> tf.data.Dataset:
        if order is None:
            return tf.data.TFRecordDataset(files).map(parse_record, num_parallel_calls=tf.data.AUTOTUNE)
        shuffled = tf.random.experimental.stateless_shuffle(files, tf.cast(order, tf.int32))
        records = tf.data.Dataset.from_tensor_slices(shuffled).interleave(
            tf.data.TFRecordDataset, PARALLEL_SHARDS, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return shuffle(records, order, shuffle_buffer).map(parse_record, num_parallel_calls=tf.data.AUTOTUNE)

    return Split(num_images, read)


def parse_record(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A serialized tf.train.Example -> (file content, label from 0 on). In the files 0 is a background class."""
    features = {ENCODED_KEY: tf.io.FixedLenFeature([], tf.string), LABEL_KEY: tf.io.FixedLenFeature([], tf.int64)}
    example = tf.io.parse_single_example(record, features)
    return example[ENCODED_KEY], tf.cast(example[LABEL_KEY] - 1, tf.int32)


def _contents(root: str, shards: dict[str, list[str]]) -> _Contents:
    """What the shards hold: from dataset.json, or known because it is ImageNet, or counted."""
    path = os.path.join(root, DATASET_JSON)
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path) as file:
            info = DatasetInfo.from_json(file.read(), path)
        for split, names in shards.items():
            if split not in info.splits:
                raise UserError(
                    f"{path}: lacks the split {split}. Write the shards again with `main.py make-tfrecords`."
                )
            _require_all(root, split, names, [name for name, _ in info.splits[split].shards])
        return _Contents(info.label_names, {split: info.splits[split].num_images for split in shards})
    if all(shards[split] == _announced(split, count) for split, (count, _) in IMAGENET.items()):
        num_images = {split: number for split, (_, number) in IMAGENET.items()}
        return _Contents(_label_names(root, NUM_IMAGENET_CLASSES), num_images)
    print(f"counting the images in {root}; make-tfrecords would have left a {DATASET_JSON} that tells", flush=True)
    counts = {split: _count(root, split, names) for split, names in shards.items()}
    highest = max(highest for _, highest in counts.values())
    return _Contents(_label_names(root, highest + 1), {split: number for split, (number, _) in counts.items()})


def _announced(split: str, count: int) -> list[str]:
    return [shard_name(split, index, count) for index in range(count)]


def _shards(root: str, split: str) -> list[str]:
    """Names of a split's shards, all of them: a missing one would go unnoticed for a whole training."""
    names = sorted(name for name in tf.io.gfile.listdir(root) if name.startswith(f"{split}-"))
    if not names:
        raise UserError(f"--data_dir={root}: has train-* shards but no {split}-* shards.")
    announced = re.fullmatch(rf"{split}-\d+-of-(\d+)", names[0])
    if announced and int(announced[1]) != len(names):
        _require_all(root, split, names, _announced(split, int(announced[1])))
    return names


def _require_all(root: str, split: str, names: Sequence[str], expected: Sequence[str]) -> None:
    missing = sorted(set(expected) - set(names))
    if missing:
        raise UserError(
            f"--data_dir={root}: {len(expected) - len(missing)} of {len(expected)} {split} shards are there; "
            f"{missing[0]} is missing. Copy the shards again, or write them again with `main.py make-tfrecords`."
        )


def _count(root: str, split: str, names: Sequence[str]) -> tuple[int, int]:
    """Number of images and highest label (from 0 on) in a split's shards; reads them all."""
    paths = [os.path.join(root, name) for name in names]
    labels = tf.data.TFRecordDataset(paths, num_parallel_reads=PARALLEL_SHARDS).map(
        lambda record: parse_record(record)[1], num_parallel_calls=tf.data.AUTOTUNE
    )
    nothing = (tf.constant(0), tf.int32.max, tf.int32.min)
    number, lowest, highest = labels.reduce(
        nothing,
        lambda state, label: (state[0] + 1, tf.minimum(state[1], label), tf.maximum(state[2], label)),
    )
    if not number:
        raise UserError(f"--data_dir={root}: the {split} shards hold no image.")
    if lowest < 0:
        raise UserError(
            f"--data_dir={root}: a label in the {split} shards is {int(lowest) + 1}; {LABEL_KEY} counts from 1 (0 is a "
            "background class without images). Write the shards again with `main.py make-tfrecords`."
        )
    return int(number), int(highest)


def _label_names(root: str, num_classes: int) -> tuple[str, ...]:
    """From labels.txt beside the shards, a name per line; without it, classes are numbered."""
    path = os.path.join(root, "labels.txt")
    if not tf.io.gfile.exists(path):
        return tuple(f"class {index}" for index in range(num_classes))
    with tf.io.gfile.GFile(path) as file:
        names = tuple(file.read().splitlines())
    if len(names) != num_classes:
        raise UserError(f"{path}: has {len(names)} names, the images have {num_classes} classes.")
    return names
