"""Opening TFRecord shards in the layout of the reference's ImageNet: train-* and validation-*, with or without the
dataset.json that `make_tfrecords` writes beside them.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.config.run import DataConfig
from efficientnet_tpu.data.records.imagenet_shard_counts import shard_counts
from efficientnet_tpu.data.records.record_split import (
    PARALLEL_SHARDS,
    RECORD_OVERHEAD,
    RecordRange,
    RecordSplit,
    readable_records,
)
from efficientnet_tpu.data.records.tfrecord_layout import (
    DATASET_JSON,
    ENCODED_KEY,
    IMAGENET_TRAIN_IMAGES,
    IMAGENET_TRAIN_SHARDS,
    IMAGENET_VALIDATION_IMAGES,
    IMAGENET_VALIDATION_SHARDS,
    LABEL_KEY,
    DatasetInfo,
    ShardInfo,
    shard_name,
)
from efficientnet_tpu.data.split import LABELS_TXT, ImageData, fingerprint
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import program
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.storage.text_file import read_text

# Shards and images of the two splits of ImageNet, which carries no dataset.json.
IMAGENET = {
    "train": (IMAGENET_TRAIN_SHARDS, IMAGENET_TRAIN_IMAGES),
    "validation": (IMAGENET_VALIDATION_SHARDS, IMAGENET_VALIDATION_IMAGES),
}


@dataclass(frozen=True)
class _Contents:
    """Names of the classes, and for every split the images in each of its shards."""

    label_names: tuple[str, ...]
    counts: dict[str, Sequence[int]]


def open_tfrecords(root: str, config: DataConfig) -> ImageData:
    """Opens TFRecord shards train-* and validation-*, with the keys and labels (from 1 on) of the reference's ImageNet.

    The first of the training shards become the minival split, if there shall be one: as near to --minival_percent as
    whole shards come, but one at least.
    """
    directory = _ShardDirectory(root)
    shards, contents = directory.shards, directory.contents()
    slices = {
        split: tuple(
            RecordRange(os.path.join(root, name), 0, count)
            for name, count in zip(names, contents.counts[split], strict=True)
        )
        for split, names in shards.items()
    }
    identity = [*contents.label_names, *shards["train"], *shards["validation"]]
    identity += [f"{split} {sum(counts)}" for split, counts in contents.counts.items()]
    held_out = 0
    if config.minival_percent:
        if len(shards["train"]) < 2:
            raise UserError(
                f"--minival_percent={config.minival_percent:g}: {config.source} has a single training shard, and whole "
                f"shards are held out. Write more with `{program()} make-tfrecords --train_shards`."
            )
        held_out = max(1, int(config.minival_percent / 100 * len(shards["train"])))
        identity.append(f"minival {held_out}")
    splits = {
        "train": slices["train"][held_out:],
        "validation": slices["validation"],
        "minival": slices["train"][:held_out],
    }
    return ImageData(
        contents.label_names,
        fingerprint=fingerprint(identity),
        **{name: RecordSplit(part, parse_record, config.shuffle_buffer) for name, part in splits.items() if part},
    )


def parse_record(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Parses a serialized tf.train.Example, string []. Returns (content of the image file string [], label int32 []).

    Labels count from 0. In the files 0 is a background class, and the first class has label 1.
    """
    features = {
        ENCODED_KEY: tf.io.FixedLenFeature([], tf.string),
        LABEL_KEY: tf.io.FixedLenFeature([], tf.int64),
    }
    example = tf.io.parse_single_example(record, features)
    return example[ENCODED_KEY], tf.cast(example[LABEL_KEY] - 1, tf.int32)


class _ShardDirectory:
    """A directory of shards: their names by split, and what they hold. Refuses missing and half-copied shards."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.shards = {split: self._names(split) for split in IMAGENET}

    def contents(self) -> _Contents:
        """Finds what the shards hold: by dataset.json, because they are ImageNet's, or by counting."""
        path = os.path.join(self.root, DATASET_JSON)
        if tf.io.gfile.exists(path):
            info = DatasetInfo.from_json(read_text(path, path), path)
            counts = {}
            for split, names in self.shards.items():
                if split not in info.splits:
                    raise UserError(
                        f"{path}: lacks the split {split}. Write the shards again with `{program()} make-tfrecords`."
                    )
                numbers = {shard.name: shard.num_images for shard in info.splits[split].shards}
                self._require_all(split, names, list(numbers))
                self._require_sizes(info.splits[split].shards)
                counts[split] = [numbers[name] for name in names]
            return _Contents(info.label_names, counts)
        return self._imagenet_contents() or self._counted_contents()

    def _imagenet_contents(self) -> _Contents | None:
        """Finds what the shards hold if they look like ImageNet's; counts the few that tell the converters apart."""
        for split, (count, _) in IMAGENET.items():
            if self.shards[split] != [shard_name(split, index, count) for index in range(count)]:
                return None
        counts = {}
        for split, names in self.shards.items():
            paths = [os.path.join(self.root, name) for name in names]
            found = shard_counts(
                IMAGENET[split][1], len(names), lambda index, paths=paths: count_images(paths[index])[0]
            )
            if found is None:
                return None
            counts[split] = found
        return _Contents(self._label_names(NUM_IMAGENET_CLASSES), counts)

    def _counted_contents(self) -> _Contents:
        """Finds what the shards hold, by reading them all."""
        print(
            f"counting the images in {self.root}; make-tfrecords would have left a {DATASET_JSON} that tells",
            flush=True,
        )
        counts, num_classes = {}, 0
        with ThreadPoolExecutor(PARALLEL_SHARDS) as pool:
            for split, names in self.shards.items():
                found = list(pool.map(count_images, [os.path.join(self.root, name) for name in names]))
                counts[split] = [number for number, _ in found]
                num_classes = max(num_classes, *(highest + 1 for _, highest in found))
                if not sum(counts[split]):
                    raise UserError(f"--data_dir={self.root}: the {split} shards hold no image.")
        return _Contents(self._label_names(num_classes), counts)

    def _names(self, split: str) -> list[str]:
        """Lists the names of a split's shards, all of them: a missing one would go unnoticed for a whole training."""
        names = sorted(name for name in tf.io.gfile.listdir(self.root) if name.startswith(f"{split}-"))
        if not names:
            raise UserError(f"--data_dir={self.root}: has train-* shards but no {split}-* shards.")
        announced = re.fullmatch(rf"{split}-(\d+)-of-(\d+)(.*)", names[0])
        if announced:
            first, last, suffix = announced.groups()  # as many digits as the converter likes
            numbers = [f"{index:0{len(first)}d}" for index in range(int(last))]
            self._require_all(split, names, [f"{split}-{number}-of-{last}{suffix}" for number in numbers])
        return names

    def _require_sizes(self, shards: Sequence[ShardInfo]) -> None:
        """Refuses shards that are not as long as when they were written: half copied, mostly."""
        known = [shard for shard in shards if shard.bytes is not None]
        with ThreadPoolExecutor(PARALLEL_SHARDS) as pool:
            sizes = pool.map(lambda shard: tf.io.gfile.stat(os.path.join(self.root, shard.name)).length, known)
            for shard, size in zip(known, sizes, strict=True):
                if size != shard.bytes:
                    raise UserError(
                        f"--data_dir={self.root}: {shard.name} has {size:,} bytes, {DATASET_JSON} says "
                        f"{shard.bytes:,}. Copy the shard again, or write the shards again with `{program()} "
                        "make-tfrecords`."
                    )

    def _require_all(self, split: str, names: Sequence[str], expected: Sequence[str]) -> None:
        """Raises UserError unless there are all of the expected shards, and no other."""
        missing = sorted(set(expected) - set(names))
        if missing:
            raise UserError(
                f"--data_dir={self.root}: {len(expected) - len(missing)} of {len(expected)} {split} shards are there; "
                f"{missing[0]} is missing. Copy the shards again, or write them again with `{program()} "
                "make-tfrecords`."
            )
        unexpected = sorted(set(names) - set(expected))
        if unexpected:
            raise UserError(
                f"--data_dir={self.root}: {unexpected[0]} is not one of the {len(expected)} {split} shards. Move away "
                "what does not belong to them."
            )

    def _label_names(self, num_classes: int) -> tuple[str, ...]:
        """Reads labels.txt beside the shards, a name per line; without it, classes are numbered."""
        path = os.path.join(self.root, LABELS_TXT)
        if not tf.io.gfile.exists(path):
            return tuple(f"class {index}" for index in range(num_classes))
        names = tuple(read_text(path, path).splitlines())
        if len(names) != num_classes:
            raise UserError(f"{path}: has {len(names)} names, the images have {num_classes} classes.")
        return names


def count_images(path: str) -> tuple[int, int]:
    """Reads a shard. Returns its number of images, and the highest label (from 0 on, -1 without images)."""
    damaged = None
    try:
        number, num_bytes, lowest, highest = (int(value) for value in _count_records(tf.constant(path)))
        if num_bytes != tf.io.gfile.stat(path).length:  # cut off where a record's length should be: no error
            damaged = readable_records(path)[1]
    except tf.errors.DataLossError:
        damaged = readable_records(path)[1]
    except tf.errors.OpError as error:
        raise UserError(
            f"{path}: not a shard of images as `{program()} make-tfrecords` writes them: {error.message}"
        ) from error
    if damaged:
        raise UserError(f"{path}: {damaged}. Copy the shard again, or write it again.")
    if lowest < 0:
        raise UserError(
            f"{path}: a label is {lowest + 1}; {LABEL_KEY} counts from 1 (0 is a background class without images). "
            f"Write the shards again with `{program()} make-tfrecords`."
        )
    return number, highest


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def _count_records(path: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns the number of records, the bytes of the file that they take, the lowest and highest label (from 0 on)."""
    zero = tf.constant(0, tf.int64)

    def add(state: tuple[tf.Tensor, ...], record: tf.Tensor) -> tuple[tf.Tensor, ...]:
        number, num_bytes, lowest, highest = state
        label = parse_record(record)[1]
        num_bytes += tf.cast(tf.strings.length(record), tf.int64) + RECORD_OVERHEAD
        return number + 1, num_bytes, tf.minimum(lowest, label), tf.maximum(highest, label)

    return tf.data.TFRecordDataset(path).reduce((zero, zero, tf.int32.max, tf.constant(-1)), add)
