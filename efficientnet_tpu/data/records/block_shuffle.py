"""Shuffling of a long stream in blocks, such that a pass can begin at any block."""

import tensorflow as tf


def shuffle(
    examples: tf.data.Dataset, order: tf.Tensor, buffer: int, first_block: int | tf.Tensor = 0
) -> tf.data.Dataset:
    """Shuffles within consecutive blocks of `buffer` examples. The examples themselves are not copied.

    order: int [2], (seed, epoch), decides the result alone. first_block: number of the block that `examples` begins
    with.
    """

    def shuffle_block(index: tf.Tensor, block: tf.data.Dataset | tuple[tf.data.Dataset, ...]) -> tf.data.Dataset:
        if isinstance(block, tuple):  # a window of tuples comes as a tuple of windows
            block = tf.data.Dataset.zip(block)
        return _shuffle_block(block, order, index, buffer)

    # The next block is gathered while this one is used.
    blocks = examples.window(buffer).enumerate(first_block).prefetch(1)
    return blocks.flat_map(shuffle_block)


def shuffled_position(order: tf.Tensor, block: int, size: int, position: int) -> int:
    """Returns which of the `size` examples of a block `shuffle` puts at a position of the block. Runs eagerly.

    order: int [2], as for `shuffle`.
    """
    shuffled = _shuffle_block(tf.data.Dataset.range(size), order, tf.constant(block), size)
    return int(next(iter(shuffled.skip(position))))


def _shuffle_block(block: tf.data.Dataset, order: tf.Tensor, index: tf.Tensor, buffer: int) -> tf.data.Dataset:
    """Shuffles as Dataset.shuffle does, but does not depend on TensorFlow's global seed."""
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
