"""Reading TFRecord shards in the layout of the reference's ImageNet: train-* and validation-*, with or without the
dataset.json that `make_tfrecords` writes beside them.
"""

import os
import re
from collections.abc import Sequence

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
    SplitInfo,
    shard_name,
)

# Shards read at a time; the reference reads 64 of ImageNet's 1024.
PARALLEL_SHARDS = 16
# Shards and images of the two splits of ImageNet, which carries no dataset.json.
IMAGENET = {
    "train": (IMAGENET_TRAIN_SHARDS, IMAGENET_TRAIN_IMAGES),
    "validation": (IMAGENET_VALIDATION_SHARDS, IMAGENET_VALIDATION_IMAGES),
}


def open_tfrecords(root: str, shuffle_buffer: int) -> ImageData:
    """TFRecord shards train-* and validation-*, keys and labels (from 1 on) as the reference's ImageNet has them."""
    info = _tfrecord_info(root)
    splits = {name: _tfrecord_split(root, split, shuffle_buffer) for name, split in info.splits.items()}
    return ImageData(info.label_names, splits["train"], splits["validation"], fingerprint([info.to_json()]))


def _tfrecord_split(root: str, info: SplitInfo, shuffle_buffer: int) -> Split:
    files = tf.constant([os.path.join(root, name) for name, _ in info.shards])

    def read(order: tf.Tensor | None) -> tf.data.Dataset:
        if order is None:
            return tf.data.TFRecordDataset(files).map(parse_record, num_parallel_calls=tf.data.AUTOTUNE)
        shuffled = tf.random.experimental.stateless_shuffle(files, tf.cast(order, tf.int32))
        records = tf.data.Dataset.from_tensor_slices(shuffled).interleave(
            tf.data.TFRecordDataset, PARALLEL_SHARDS, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return shuffle(records, order, shuffle_buffer).map(parse_record, num_parallel_calls=tf.data.AUTOTUNE)

    return Split(info.num_images, read)


def parse_record(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A serialized tf.train.Example -> (file content, label from 0 on). In the files 0 is a background class."""
    features = {ENCODED_KEY: tf.io.FixedLenFeature([], tf.string), LABEL_KEY: tf.io.FixedLenFeature([], tf.int64)}
    example = tf.io.parse_single_example(record, features)
    return example[ENCODED_KEY], tf.cast(example[LABEL_KEY] - 1, tf.int32)


def _tfrecord_info(root: str) -> DatasetInfo:
    path = os.path.join(root, DATASET_JSON)
    files = {split: _shards(root, split) for split in ("train", "validation")}
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path) as file:
            info = DatasetInfo.from_json(file.read(), path)
        for split, names in files.items():
            _require_all(root, split, names, [name for name, _ in info.splits[split].shards])
        return info
    if all(
        files[split] == [shard_name(split, i, shards) for i in range(shards)] for split, (shards, _) in IMAGENET.items()
    ):
        counts = {split: images for split, (_, images) in IMAGENET.items()}
        num_classes = 1000
    else:
        print(
            f"counting the images in {root} ({DATASET_JSON}, which make-tfrecords writes, is missing) ...", flush=True
        )
        counted = {split: _count([os.path.join(root, name) for name in names]) for split, names in files.items()}
        for split, (count, _) in counted.items():
            if not count:
                raise UserError(f"--data_dir={root}: the {split} shards hold no image.")
        counts = {split: count for split, (count, _) in counted.items()}
        num_classes = max(highest for _, highest in counted.values()) + 1
    splits = {name: SplitInfo(counts[name], tuple((shard, 0) for shard in files[name])) for name in files}
    return DatasetInfo(_label_names(root, num_classes), splits)


def _shards(root: str, split: str) -> list[str]:
    """Names of a split's shards, all of them: a missing one would go unnoticed for a whole training."""
    names = sorted(os.path.basename(path) for path in tf.io.gfile.glob(os.path.join(root, f"{split}-*")))
    if not names:
        raise UserError(f"--data_dir={root}: has train-* shards but no {split}-* shards.")
    announced = re.fullmatch(rf"{split}-\d+-of-(\d+)", names[0])
    if announced and int(announced[1]) != len(names):
        count = int(announced[1])
        _require_all(root, split, names, [shard_name(split, index, count) for index in range(count)])
    return names


def _require_all(root: str, split: str, names: Sequence[str], expected: Sequence[str]) -> None:
    missing = sorted(set(expected) - set(names))
    if missing:
        raise UserError(
            f"--data_dir={root}: {len(expected) - len(missing)} of {len(expected)} {split} shards are there; "
            f"{missing[0]} is missing. Copy the shards again, or write them again with `main.py make-tfrecords`."
        )


def _count(paths: Sequence[str]) -> tuple[int, int]:
    """Number of images and highest label (from 0 on) in some shards; reads them all."""
    labels = tf.data.TFRecordDataset(paths, num_parallel_reads=PARALLEL_SHARDS).map(
        lambda record: parse_record(record)[1], num_parallel_calls=tf.data.AUTOTUNE
    )
    count, highest = labels.reduce(
        (tf.constant(0), tf.constant(-1)), lambda state, label: (state[0] + 1, tf.maximum(state[1], label))
    )
    return int(count), int(highest)


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
