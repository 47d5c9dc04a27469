"""Records in shards (TFRecord files) as a Split: hosts have fixed parts, an epoch mixes a host's shards.

The records of all shards, one after the other, are divided among the hosts: each has a contiguous range of them, the
same in all epochs, which may begin and end inside of shards. In an epoch the host's slices of shards are permuted and
read in groups of up to 16, a group's slices in turn, record by record; the stream of all groups is shuffled in blocks.
All sizes are known, so that a pass begins anywhere: groups before are not opened, records before are not parsed.
"""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.data.records.block_shuffle import shuffle, shuffled_position
from efficientnet_tpu.data.split import HostShard, Split

PARALLEL_SHARDS = 16  # the reference reads 64 of ImageNet's 1024 shards at a time
RECORD_OVERHEAD = 16  # bytes: its length and two checksums
# Bytes read at a time: a request each from gs://, where the reference takes as many.
_REMOTE_BUFFER, _LOCAL_BUFFER = 2**23, 2**18
_SALT = 0x5EC0  # keeps the draws here apart from those for images, which come of the same (seed, epoch)


@dataclass(frozen=True)
class Slice:
    """`take` records of a TFRecord file, from record `skip` on."""

    path: str
    skip: int
    take: int


@dataclass(frozen=True, eq=False)
class RecordSplit(Split):
    """The records of `slices`. parse: serialized record -> (content of the image file, label from 0 on).

    A record that cannot be read is an empty handle, so that all others keep their places.
    """

    slices: tuple[Slice, ...]
    parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    shuffle_buffer: int

    @property
    def num_images(self) -> int:
        return sum(part.take for part in self.slices)

    def handles(self, shard: HostShard, order: tf.Tensor | None, first: int | tf.Tensor = 0) -> tf.data.Dataset:
        """Returns scalar handles, as `Split` says. order: int64 [2] or None."""
        groups, order = _arrange(host_part(self.slices, shard), order)
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

    def locate(self, shard: HostShard, order: tf.Tensor | None, position: int) -> str:
        """Names an image by its position in an order, int64 [2] or None."""
        groups, order = _arrange(host_part(self.slices, shard), order)
        if order is not None:
            block, offset = divmod(position, self.shuffle_buffer)
            start = block * self.shuffle_buffer
            size = min(self.shuffle_buffer, shard.num_images(self.num_images) - start)
            position = start + shuffled_position(order, block, size, offset)
        path, record = groups.find(position)
        readable, reason = readable_records(path)
        words = f"{os.path.basename(path)} record {record}"
        return words if record < readable else f"{words}: {reason}"


def host_part(slices: Sequence[Slice], shard: HostShard) -> tuple[Slice, ...]:
    """The slices of one host: a contiguous range of all records, as long as `shard.num_images` says."""
    total = sum(part.take for part in slices)
    begin = sum(HostShard(index, shard.count).num_images(total) for index in range(shard.index))
    end = begin + shard.num_images(total)
    parts, position = [], 0
    for whole in slices:
        first, last = max(begin - position, 0), min(end - position, whole.take)
        if first < last:
            parts.append(Slice(whole.path, whole.skip + first, last - first))
        position += whole.take
    return tuple(parts)


@dataclass(frozen=True)
class _Groups:
    """Slices in the order they are read in: group g is borders[g]:borders[g + 1] of them, before[g] records come first.

    paths: string [slices]; skips, takes: int64 [slices]; borders, before: int64 [groups + 1].
    """

    paths: tf.Tensor
    skips: tf.Tensor
    takes: tf.Tensor
    borders: tf.Tensor
    before: tf.Tensor

    def read(self, start: tf.Tensor) -> tf.data.Dataset:
        """The records of all groups from position `start` on, serialized."""

        def read_group(group: tf.Tensor) -> tf.data.Dataset:
            members = slice(self.borders[group], self.borders[group + 1])
            slices = tf.data.Dataset.from_tensor_slices((self.paths[members], self.skips[members], self.takes[members]))
            records = slices.interleave(
                _read_slice, PARALLEL_SHARDS, num_parallel_calls=PARALLEL_SHARDS, deterministic=True
            )
            return records.skip(tf.maximum(start - self.before[group], 0))

        first_group = tf.searchsorted(self.before, [start], side="right", out_type=tf.int64)[0] - 1
        return tf.data.Dataset.range(first_group, self.borders.shape[0] - 1).flat_map(read_group)

    def find(self, position: int) -> tuple[str, int]:
        """Path and number in the file of the record that `read` has at a position; computed anew, eagerly."""
        group = int(np.searchsorted(self.before.numpy(), position, side="right")) - 1
        members = slice(int(self.borders[group]), int(self.borders[group + 1]))
        takes = self.takes[members].numpy()
        # In turn: the first records of all slices, then the second ones; a slice that has ended is passed over.
        slots = np.repeat(np.arange(len(takes)), takes)
        records = np.concatenate([np.arange(take) for take in takes])
        turn = np.lexsort((slots, records))[position - int(self.before[group])]
        index = members.start + slots[turn]
        return self.paths[index].numpy().decode(), int(self.skips[index]) + int(records[turn])


def _arrange(part: Sequence[Slice], order: tf.Tensor | None) -> tuple[_Groups, tf.Tensor | None]:
    """A host's slices as they are read, and the seed (int32 [2]) of further shuffling.

    Without an order, one slice after the other.
    """
    with tf.device("CPU:0"):  # there in the input pipeline too, and not every device draws the same
        indices = tf.range(len(part))
        if order is None:
            num_groups = len(part)
        else:
            order = tf.random.experimental.stateless_fold_in(tf.cast(order, tf.int32), _SALT)
            indices = tf.random.experimental.stateless_shuffle(indices, order)
            num_groups = -(-len(part) // PARALLEL_SHARDS)
        borders = [group * len(part) // max(1, num_groups) for group in range(num_groups + 1)]
        paths, skips, takes = (
            tf.gather(tf.constant([getattr(one, field) for one in part], kind), indices)
            for field, kind in (("path", tf.string), ("skip", tf.int64), ("take", tf.int64))
        )
        before = tf.gather(tf.concat([[0], tf.cumsum(takes)], axis=0), borders)
        return _Groups(paths, skips, takes, tf.constant(borders, tf.int64), before), order


def _read_slice(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.data.Dataset:
    """Exactly `take` records, empty strings for those that cannot be read.

    After a damaged record TensorFlow gives up the rest of a file. A file that cannot be opened it tries again whenever
    asked, for ever under `ignore_errors`: the range, which advances at every attempt, puts an end to that.
    """
    remote = tf.strings.regex_full_match(path, ".*://.*")
    buffer = tf.where(remote, tf.constant(_REMOTE_BUFFER, tf.int64), tf.constant(_LOCAL_BUFFER, tf.int64))
    # tf.data.TFRecordDataset would wrap this in a function and a dataset of one file name.
    file = tf.raw_ops.TFRecordDataset(filenames=path, compression_type="", buffer_size=buffer)
    records = tf.data.experimental.from_variant(file, tf.TensorSpec([], tf.string))
    records = tf.data.Dataset.zip(tf.data.Dataset.range(skip + take), records).ignore_errors()
    missing = tf.data.Dataset.from_tensors("").repeat()
    return records.map(lambda number, record: record).concatenate(missing).skip(skip).take(take)


@functools.lru_cache(maxsize=1024)
def readable_records(path: str) -> tuple[int, str]:
    """How many records of a TFRecord file can be read, and why not more: with the offset in bytes."""
    count, offset = 0, 0
    try:
        for record in tf.data.TFRecordDataset(path):
            count += 1
            offset += len(record.numpy()) + RECORD_OVERHEAD
        size = tf.io.gfile.stat(path).length
    except tf.errors.DataLossError as error:
        kind = "is cut off inside of" if "truncated" in error.message else "has a wrong checksum in"
        return count, f"the file {kind} record {count}, at byte {offset:,}"
    except tf.errors.OpError as error:
        return count, f"the file cannot be read: {error.message}"
    if size > offset:
        return count, f"the file is cut off inside of record {count}, at byte {offset:,}"
    return count, f"the file ends after {count} records, at byte {offset:,}"
