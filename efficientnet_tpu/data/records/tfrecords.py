"""Opening TFRecord shards: in the layout of the reference's ImageNet, with or without the dataset.json that
`make_tfrecords` writes beside them, or as others name, compress and key them.
"""

import dataclasses
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.class_names import read_labels
from efficientnet_tpu.data.records.imagenet_shard_counts import shard_counts
from efficientnet_tpu.data.records.record_file import compression_of, first_record
from efficientnet_tpu.data.records.record_keys import RecordKeys
from efficientnet_tpu.data.records.record_split import PARALLEL_SHARDS, RecordRange, RecordSplit
from efficientnet_tpu.data.records.shard_contents import ShardContents, read_contents
from efficientnet_tpu.data.records.shard_names import Shards
from efficientnet_tpu.data.records.tfrecord_layout import (
    DATASET_JSON,
    IMAGENET_TRAIN_IMAGES,
    IMAGENET_TRAIN_SHARDS,
    IMAGENET_VALIDATION_IMAGES,
    IMAGENET_VALIDATION_SHARDS,
    DatasetInfo,
    ShardInfo,
    shard_name,
)
from efficientnet_tpu.data.sources.labelled_files import sorted_names
from efficientnet_tpu.data.split import LABELS_TXT, ImageData, fingerprint
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import program
from efficientnet_tpu.models.architecture import NUM_IMAGENET_CLASSES
from efficientnet_tpu.storage.regular_file import require_regular
from efficientnet_tpu.storage.text_file import read_text

# Shards and images of the two splits of ImageNet, which carries no dataset.json.
IMAGENET = {
    "train": (IMAGENET_TRAIN_SHARDS, IMAGENET_TRAIN_IMAGES),
    "validation": (IMAGENET_VALIDATION_SHARDS, IMAGENET_VALIDATION_IMAGES),
}


@dataclass(frozen=True)
class _Contents:
    """Names of the classes, for every split the images in each of its shards, and the longer side of reduced copies."""

    label_names: tuple[str, ...]
    counts: dict[str, Sequence[int]]
    max_side: int | None = None


def open_tfrecords(shards: Shards, config: DataConfig) -> ImageData:
    """Opens TFRecord shards, with the keys and labels (from 1 on) of the reference's ImageNet, or --tfrecord_keys.

    The first of the training shards become the minival split, if there shall be one: as near to --minival_percent as
    whole shards come, but one at least. Test images are validated on where there are no others.
    """
    directory = _ShardDirectory(shards, RecordKeys.of_flag(config.tfrecord_keys))
    contents = directory.contents()
    splits, words = dict(directory.splits), dict(shards.words)
    counts = dict(contents.counts)
    if "train" in splits and "validation" not in splits and "test" in splits:
        splits["validation"], counts["validation"] = splits.pop("test"), counts.pop("test")
        words["validation"] = words.pop("test")
        print(f"validation: the images of {words['validation']}, as there are no others", flush=True)
    ranges = {
        split: [
            RecordRange(os.path.join(shards.root, name), 0, count, compression)
            for name, count, compression in zip(names, counts[split], directory.compressions(names), strict=True)
        ]
        for split, names in splits.items()
    }
    # A test split came later: with it, the fingerprints of earlier runs would be others.
    ours = [split for split in ("train", "validation") if split in splits]
    identity = [*contents.label_names, *(name for split in ours for name in splits[split])]
    identity += [f"{split} {sum(counts[split])}" for split in ours]
    identity += [f"max_side {contents.max_side}"] * (contents.max_side is not None)
    held_out: tuple[str, ...] = ()
    if config.minival_percent and "train" in splits:
        if len(splits["train"]) < 2:
            raise UserError(
                f"--minival_percent={config.minival_percent:g}: {config.source} has a single training shard, and whole "
                f"shards are held out. Write more with `{program()} make-tfrecords --train_shards`."
            )
        num_held_out = max(1, int(config.minival_percent / 100 * len(splits["train"])))
        identity.append(f"minival {num_held_out}")
        ranges["minival"], ranges["train"] = ranges["train"][:num_held_out], ranges["train"][num_held_out:]
        held_out = ("minival",)
    missing = dict.fromkeys({"train", "validation"} - splits.keys())
    records = {
        split: RecordSplit(tuple(part), directory.keys.parse, config.shuffle_buffer) for split, part in ranges.items()
    }
    return ImageData(
        contents.label_names,
        fingerprint=fingerprint(identity),
        words=words,
        held_out=held_out,
        max_side=contents.max_side,
        **missing,
        **records,
    )


class _ShardDirectory:
    """A directory of shards and what they hold. Refuses missing and half-copied shards, and records without the keys.

    splits: split -> names of its shards. keys: with what the first records show.
    """

    def __init__(self, shards: Shards, keys: RecordKeys) -> None:
        self.root, self.keys = shards.root, keys
        self.splits = dict(shards.splits)
        self._compressions: dict[str, str] = {}  # by name, of those that were read
        for split, names in self.splits.items():
            self._require_numbered(split, names)
            for path in (os.path.join(self.root, name) for name in names):
                require_regular(path, path)
        for split in [split for split in ("train", "validation", "test") if split in self.splits]:
            self._check_keys(split)

    def contents(self) -> _Contents:
        """Finds what the shards hold: by dataset.json, because they are ImageNet's, or by counting."""
        path = os.path.join(self.root, DATASET_JSON)
        if tf.io.gfile.exists(path):
            info = DatasetInfo.from_json(read_text(path, path), path)
            counts = {}
            for split, names in self.splits.items():
                if split not in info.splits:
                    raise UserError(
                        f"{path}: lacks the split {split}. Write the shards again with `{program()} make-tfrecords`."
                    )
                numbers = {shard.name: shard.num_images for shard in info.splits[split].shards}
                self._require_all(split, names, list(numbers))
                self._require_sizes(info.splits[split].shards)
                counts[split] = [numbers[name] for name in names]
            return _Contents(info.label_names, counts, info.max_side)
        return self._imagenet_contents() or self._counted_contents()

    def compressions(self, names: Sequence[str]) -> list[str]:
        """Returns how each shard of a split is compressed. Of those that were not read, the first tells."""
        first = compression_of(os.path.join(self.root, names[0]))
        return [self._compressions.get(name, first) for name in names]

    def _check_keys(self, split: str) -> None:
        """Looks at the first record that there is. Test images without labels are left out, as nobody can be measured
        on them.
        """
        for name in self.splits[split]:
            path = os.path.join(self.root, name)
            try:
                record = first_record(path)
            except tf.errors.OpError as error:
                raise UserError(f"{path}: cannot be read: {error.message}") from error
            if record is None:
                continue
            try:
                self.keys = self.keys.checked(record, path)
            except UserError as error:
                if split != "test" or len(self.splits) == 1:
                    raise
                print(f"left out: the test shards; {error}", flush=True)
                del self.splits[split]
            return

    def _imagenet_contents(self) -> _Contents | None:
        """Finds what the shards hold if they look like ImageNet's; counts the few that tell the converters apart."""
        counts = {}
        for split, names in self.splits.items():
            num_shards, num_images = IMAGENET.get(split, (0, 0))
            if names != [shard_name(split, index, num_shards) for index in range(num_shards)]:
                return None
            found = shard_counts(num_images, num_shards, lambda index, names=names: self._read(names[index]).num_images)
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
        counts, found = {}, []
        with ThreadPoolExecutor(PARALLEL_SHARDS) as pool:
            for split, names in self.splits.items():
                of_split = list(pool.map(self._read, names))
                found += of_split
                counts[split] = [shard.num_images for shard in of_split]
                if not sum(counts[split]):
                    raise UserError(f"--data_dir={self.root}: the {split} shards hold no image.")
        if self.keys.has_names:
            names = sorted_names(name for shard in found for name in shard.names)
            self.keys = dataclasses.replace(self.keys, names=names)
            return _Contents(names, counts)
        lowest = min(shard.lowest for shard in found if shard.lowest is not None)
        if lowest and self.keys.first_label is None and not self.keys.base:
            raise UserError(
                f"--data_dir={self.root}: no label is 0, the lowest is {lowest}. Say whether the first class is 0 or "
                f"1: {self.keys.flag(first_label=0)} or {self.keys.flag(first_label=1)}"
            )
        highest = max(shard.highest for shard in found if shard.highest is not None)
        return _Contents(self._label_names(highest - self.keys.base + 1), counts)

    def _read(self, name: str) -> ShardContents:
        """Reads a shard whole. Refuses labels below that of the first class."""
        path = os.path.join(self.root, name)
        contents = read_contents(path, self.keys)
        self._compressions[name] = contents.compression
        if contents.lowest is not None and contents.lowest < self.keys.base:
            advice = f"Write the shards again with `{program()} make-tfrecords`."
            if not contents.lowest:
                advice = f"If its classes count from 0, give {self.keys.flag(first_label=0)}"
            raise UserError(
                f"{path}: a label is {contents.lowest}; {self.keys.label} counts from {self.keys.base}"
                f"{' (0 is a background class without images)' if self.keys.base else ''}. {advice}"
            )
        return contents

    def _require_numbered(self, split: str, names: Sequence[str]) -> None:
        """Refuses a split that lacks shards of those it announces: it would go unnoticed for a whole training."""
        announced = re.fullmatch(r"(.*-)(\d+)-of-(\d+)(.*)", names[0])
        if announced:
            before, first, last, after = announced.groups()  # as many digits as the converter likes
            numbers = [f"{index:0{len(first)}d}" for index in range(int(last))]
            self._require_all(split, names, [f"{before}{number}-of-{last}{after}" for number in numbers])

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
        names = read_labels(read_text(path, path), path)
        # A set to measure on may lack the last classes.
        if len(names) != num_classes if "train" in self.splits else len(names) < num_classes:
            raise UserError(f"{path}: has {len(names)} names, the images have {num_classes} classes.")
        return names
