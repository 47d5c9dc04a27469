"""What every source of images becomes: label names and two splits to read."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Split:
    """A set of labelled images. `read` gives one pass over them as (file content: string, label: int32) examples.

    read(order): `order` is int64 [2], (seed, epoch), and decides a shuffled order; None keeps the stored one.
    """

    num_images: int
    read: Callable[[tf.Tensor | None], tf.data.Dataset]


@dataclass(frozen=True)
class ImageData:
    """Training and validation images with the names of their classes, in the order of the labels 0, 1, ..."""

    label_names: tuple[str, ...]
    train: Split
    validation: Split
    fingerprint: str  # of file names, sizes or counts: tells whether it is the same data, without reading it all


def fingerprint(parts: Sequence[str]) -> str:
    """16 hexadecimal digits that change when the parts do."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def shuffle(examples: tf.data.Dataset, order: tf.Tensor, buffer: int) -> tf.data.Dataset:
    """Shuffles within consecutive blocks of `buffer` examples, by `order` (int64 [2]: seed, epoch) alone.

    Dataset.shuffle draws from TensorFlow's global seed too and takes no zero.
    """

    def shuffle_block(index: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
        seed = tf.random.experimental.stateless_fold_in(tf.cast(order, tf.int32), tf.cast(index, tf.int32))
        positions = tf.range(tf.shape(tf.nest.flatten(block)[0])[0])
        shuffled = tf.random.experimental.stateless_shuffle(positions, seed)
        return tf.nest.map_structure(lambda values: tf.gather(values, shuffled), block)

    # The next block is gathered while this one is used.
    return examples.batch(buffer).enumerate().map(shuffle_block).prefetch(1).unbatch()
