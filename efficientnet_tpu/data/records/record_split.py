"""Records in shards (TFRecord files) as a Split: each host has a fixed part, and an epoch mixes the host's shards.

The records of all shards, one after the other, are divided among the hosts. Each host has a contiguous part, the same
in all epochs, which may begin and end inside a shard. In an epoch the host's ranges of records are permuted and read in
groups of up to 16, the ranges of a group in turn, record by record. The stream of all groups is shuffled in blocks.
All sizes are known, so that a pass can begin anywhere: earlier groups are not opened, earlier records are not parsed.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.data.records.block_shuffle import shuffle, shuffled_position
from efficientnet_tpu.data.records.record_file import readable_records
from efficientnet_tpu.data.split import HostShard, Split

PARALLEL_SHARDS = 16  # the reference reads 64 of ImageNet's 1024 shards at a time
# Bytes read at a time: a request each from gs://, where the reference takes as many.
_REMOTE_BUFFER, _LOCAL_BUFFER = 2**23, 2**18
_SALT = 0x5EC0  # keeps the draws here apart from those for images, which come of the same (seed, epoch)


@dataclass(frozen=True)
class RecordRange:
    """`take` records of a TFRecord file, from record `skip` on. compression: GZIP, ZLIB or ""."""

    path: str
    skip: int
    take: int
    compression: str = ""


@dataclass(frozen=True, eq=False)
class RecordSplit(Split):
    """The records of `ranges`. parse: serialized record -> (content of the image file, label from 0 on).

    A record that cannot be read is an empty handle, so that all others keep their places.
    """

    ranges: tuple[RecordRange, ...]
    parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    shuffle_buffer: int

    @property
    def num_images(self) -> int:
        return sum(part.take for part in self.ranges)

    def buffered_bytes(self) -> int:
        """Returns the bytes of the two blocks of records that are shuffled, by the size of one file."""
        part = max(self.ranges, key=lambda part: part.take)
        bytes_per_record = tf.io.gfile.stat(part.path).length / (part.skip + part.take)
        return int(min(2 * self.shuffle_buffer, self.num_images) * bytes_per_record)

    def handles(self, shard: HostShard, order: tf.Tensor | None, first: int | tf.Tensor = 0) -> tf.data.Dataset:
        """Returns scalar handles, as `Split` says. order: int64 [2] or None."""
        groups, order = _Groups.arrange(host_part(self.ranges, shard), order)
        first = tf.cast(first, tf.int64)
        if order is None:
            return groups.read(first)
        block = first // self.shuffle_buffer
        start = block * self.shuffle_buffer
        return shuffle(groups.read(start), order, self.shuffle_buffer, block).skip(first - start)

    def load(self, handle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads the image of a scalar handle: (content string [], label int32 [])."""
        readable = tf.raw_ops.Assert(
            condition=tf.strings.length(handle) > 0, data=["the record is damaged or missing in its shard"]
        )
        with tf.control_dependencies([readable] if readable is not None else []):
            encoded, label = self.parse(tf.identity(handle))
        known = tf.raw_ops.Assert(condition=label >= 0, data=["the record has no label of a class"])
        with tf.control_dependencies([known] if known is not None else []):
            return tf.identity(encoded), tf.cast(label, tf.int32)

    def stored_in(self) -> list[tuple[str, str]]:
        """Returns (path, records) of each range."""
        return [(part.path, f"{part.skip}+{part.take}") for part in self.ranges]

    def join(self, other: "RecordSplit") -> "RecordSplit":
        """Returns the records of both."""
        return dataclasses.replace(self, ranges=(*self.ranges, *other.ranges))

    def locate(self, shard: HostShard, order: tf.Tensor | None, position: int) -> str:
        """Names an image by its position in an order, int64 [2] or None."""
        groups, order = _Groups.arrange(host_part(self.ranges, shard), order)
        if order is not None:
            block, offset = divmod(position, self.shuffle_buffer)
            start = block * self.shuffle_buffer
            size = min(self.shuffle_buffer, shard.num_images(self.num_images) - start)
            position = start + shuffled_position(order, block, size, offset)
        path, record = groups.find(position)
        readable, reason = readable_records(path)
        words = f"{os.path.basename(path)} record {record}"
        return words if record < readable else f"{words}: {reason}"


def host_part(ranges: Sequence[RecordRange], shard: HostShard) -> tuple[RecordRange, ...]:
    """Returns the ranges of one host: contiguous records, as many as `shard.num_images` says."""
    total = sum(part.take for part in ranges)
    begin = sum(HostShard(index, shard.count).num_images(total) for index in range(shard.index))
    end = begin + shard.num_images(total)
    parts, position = [], 0
    for whole in ranges:
        first, last = max(begin - position, 0), min(end - position, whole.take)
        if first < last:
            parts.append(dataclasses.replace(whole, skip=whole.skip + first, take=last - first))
        position += whole.take
    return tuple(parts)


@dataclass(frozen=True)
class _Groups:
    """The ranges of a host in the order they are read: group g is ranges borders[g] to borders[g + 1].

    paths, compressions: string [ranges]. skips, takes: int64 [ranges]. borders, before: int64 [groups + 1]; before[g]
    records are in the groups before g.
    """

    paths: tf.Tensor
    compressions: tf.Tensor
    skips: tf.Tensor
    takes: tf.Tensor
    borders: tf.Tensor
    before: tf.Tensor

    @classmethod
    def arrange(cls, part: Sequence[RecordRange], order: tf.Tensor | None) -> tuple["_Groups", tf.Tensor | None]:
        """Puts a host's ranges into the order in which they are read.

        order: int64 [2] or None. With an order the ranges are permuted and read in groups of up to 16. Without one,
        each range is a group. Returns the groups, and the seed int32 [2] or None for the shuffling that follows.
        """
        with tf.device("CPU:0"):  # also inside the input pipeline, because devices draw different numbers
            permutation, num_groups, seed = tf.range(len(part)), len(part), None
            if order is not None:
                seed = tf.random.experimental.stateless_fold_in(tf.cast(order, tf.int32), _SALT)
                permutation = tf.random.experimental.stateless_shuffle(permutation, seed)
                num_groups = -(-len(part) // PARALLEL_SHARDS)
            borders = [group * len(part) // max(1, num_groups) for group in range(num_groups + 1)]
            paths = tf.gather(tf.constant([one.path for one in part], tf.string), permutation)
            compressions = tf.gather(tf.constant([one.compression for one in part], tf.string), permutation)
            skips = tf.gather(tf.constant([one.skip for one in part], tf.int64), permutation)
            takes = tf.gather(tf.constant([one.take for one in part], tf.int64), permutation)
            before = tf.gather(tf.concat([[0], tf.cumsum(takes)], axis=0), borders)
            return cls(paths, compressions, skips, takes, tf.constant(borders, tf.int64), before), seed

    def read(self, start: tf.Tensor) -> tf.data.Dataset:
        """Reads the records of all groups from position `start`, int64 [], on: string []."""

        def read_group(group: tf.Tensor) -> tf.data.Dataset:
            members = slice(self.borders[group], self.borders[group + 1])
            columns = (self.paths, self.skips, self.takes, self.compressions)
            ranges = tf.data.Dataset.from_tensor_slices(tuple(column[members] for column in columns))
            records = ranges.interleave(
                read_range, PARALLEL_SHARDS, num_parallel_calls=PARALLEL_SHARDS, deterministic=True
            )
            return records.skip(tf.maximum(start - self.before[group], 0))

        first_group = tf.searchsorted(self.before, [start], side="right", out_type=tf.int64)[0] - 1
        return tf.data.Dataset.range(first_group, self.borders.shape[0] - 1).flat_map(read_group)

    def find(self, position: int) -> tuple[str, int]:
        """Finds the record that `read` has at a position: path, and number in the file. Runs eagerly."""
        group = int(np.searchsorted(self.before.numpy(), position, side="right")) - 1
        first_range, end_range = int(self.borders[group]), int(self.borders[group + 1])
        takes = self.takes[first_range:end_range].numpy()
        # `interleave` takes the first records of all ranges, then the second ones, and passes over a range that ended:
        # records come sorted by their number in the range, then by the range.
        range_of = np.repeat(np.arange(len(takes)), takes)
        number_of = np.concatenate([np.arange(take) for take in takes])
        record = np.lexsort((range_of, number_of))[position - int(self.before[group])]
        index = first_range + range_of[record]
        return self.paths[index].numpy().decode(), int(self.skips[index]) + int(number_of[record])


def read_range(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor, compression: tf.Tensor | str = "") -> tf.data.Dataset:
    """Reads exactly `take` records, string [], with empty strings for those that cannot be read.

    path, compression: string scalars. skip, take: int64 scalars.
    After a damaged record TensorFlow skips the rest of a file. It retries a file that cannot be opened forever under
    `ignore_errors`: zipping with a range bounds the retries.
    """
    remote = tf.strings.regex_full_match(path, ".*://.*")
    buffer = tf.where(remote, tf.constant(_REMOTE_BUFFER, tf.int64), tf.constant(_LOCAL_BUFFER, tf.int64))
    # tf.data.TFRecordDataset would wrap this in a function and a dataset of one file name.
    file = tf.raw_ops.TFRecordDataset(filenames=path, compression_type=compression, buffer_size=buffer)
    records = tf.data.experimental.from_variant(file, tf.TensorSpec([], tf.string))
    records = tf.data.Dataset.zip(tf.data.Dataset.range(skip + take), records).ignore_errors()
    missing = tf.data.Dataset.from_tensors("").repeat()
    return records.map(lambda number, record: record).concatenate(missing).skip(skip).take(take)
