"""What every source of images becomes: label names and splits to read."""

import abc
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class HostShard:
    """The part of the images that one host reads; parts differ by at most one image."""

    index: int = 0
    count: int = 1

    def num_images(self, total: int) -> int:
        return (total - self.index + self.count - 1) // self.count


SINGLE_HOST = HostShard()


class Split(abc.ABC):
    """A set of labelled images in an order that is a function of (seed, epoch).

    `order` is int64 [2], (seed, epoch), and decides a shuffled order; None keeps the stored one.
    """

    num_images: int

    @abc.abstractmethod
    def handles(self, shard: HostShard, order: tf.Tensor | None, first: int | tf.Tensor = 0) -> tf.data.Dataset:
        """One pass over the host's part, from its position `first` on: exactly shard.num_images(num_images) - first
        scalars, each what `load` takes. Cheap, and never fails because of a single image: one that cannot be had (a
        damaged record) comes as a handle that `load` refuses.
        """

    @abc.abstractmethod
    def load(self, handle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A handle -> (content of the image file: string, label: int32). Raises an OpError when it cannot be had."""

    @abc.abstractmethod
    def locate(self, shard: HostShard, order: tf.Tensor | None, position: int) -> str:
        """Where the image at a position of the host's part is: path, or shard and record. For people; runs eagerly."""


@dataclass(frozen=True)
class ImageData:
    """Training and validation images with the names of their classes, in the order of the labels 0, 1, ..."""

    label_names: tuple[str, ...]
    train: Split
    validation: Split
    fingerprint: str  # of file names, sizes or counts: tells whether it is the same data, without reading it all
    minival: Split | None = None  # held out of the training images, to choose by


def fingerprint(parts: Iterable[str]) -> str:
    """16 hexadecimal digits that change when the parts do."""
    digest = hashlib.sha256()
    for number, part in enumerate(parts):
        digest.update(b"\n" * (number > 0) + part.encode())
    return digest.hexdigest()[:16]


def shuffle(
    examples: tf.data.Dataset, order: tf.Tensor, buffer: int, first_block: int | tf.Tensor = 0
) -> tf.data.Dataset:
    """Shuffles within consecutive blocks of `buffer` examples, by `order` (int [2]: seed, epoch) alone.

    `first_block`: number of the block that `examples` begins with. The examples themselves are not copied.
    """

    def shuffle_block(index: tf.Tensor, block: tf.data.Dataset | tuple[tf.data.Dataset, ...]) -> tf.data.Dataset:
        if isinstance(block, tuple):  # a window of tuples comes as a tuple of windows
            block = tf.data.Dataset.zip(block)
        return _shuffle_block(block, order, index, buffer)

    # The next block is gathered while this one is used.
    blocks = examples.window(buffer).enumerate(first_block).prefetch(1)
    return blocks.flat_map(shuffle_block)


def shuffled_position(order: tf.Tensor, block: int, size: int, position: int) -> int:
    """Which of the `size` examples of a block `shuffle` puts at a position of it. Runs eagerly."""
    shuffled = _shuffle_block(tf.data.Dataset.range(size), order, tf.constant(block), size)
    return int(next(iter(shuffled.skip(position))))


def _shuffle_block(block: tf.data.Dataset, order: tf.Tensor, index: tf.Tensor, buffer: int) -> tf.data.Dataset:
    """Dataset.shuffle without its part in TensorFlow's global seed."""
    seed = tf.random.experimental.stateless_fold_in(tf.cast(order, tf.int32), tf.cast(index, tf.int32))
    specs = tf.nest.flatten(block.element_spec)
    shuffled = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(block),
        buffer_size=tf.constant(buffer, tf.int64),
        seed=tf.cast(seed[0], tf.int64),
        seed2=tf.cast(seed[1], tf.int64) + 2**32,  # never zero: two zeros would mean any seed
        output_types=[spec.dtype for spec in specs],
        output_shapes=[spec.shape for spec in specs],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(shuffled, block.element_spec)
