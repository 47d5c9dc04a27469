"""The stream of batches: which image comes when, on which host, and how it is prepared.

The order and every random draw are a function of (seed, epoch, position in the epoch). A run can therefore start at
any step: what was trained on before is skipped while still encoded, which costs reading but no decoding.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.config import UserError
from efficientnet_tpu.data.image_data import Split

# Draws of an image: string scalar, int32 [2] -> uint8 [size, size, 3].
TrainImage = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
EvalImage = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Shard:
    """The part of the images that one host reads: every count-th, from `index` on."""

    index: int = 0
    count: int = 1

    def num_images(self, total: int) -> int:
        return (total - self.index + self.count - 1) // self.count


def train_batches(
    split: Split, prepare: TrainImage, batch_size: int, seed: int, first_image: int, shard: Shard
) -> tf.data.Dataset:
    """Endless batches (uint8 [batch_size, size, size, 3], int32 [batch_size]).

    Epochs follow one another without a gap, batches run on across them: every image comes exactly once per epoch.
    `first_image` counts this host's images already trained on.
    """
    first_epoch, skip = divmod(first_image, shard.num_images(split.num_images))

    def epoch_examples(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.stack([tf.constant(seed, tf.int64), epoch])
        examples = split.read(order).shard(shard.count, shard.index).enumerate()
        examples = examples.skip(tf.where(epoch == first_epoch, tf.constant(skip, tf.int64), 0))
        return examples.map(lambda position, example: (order, position, *example))

    def prepare_example(
        order: tf.Tensor, position: tf.Tensor, encoded: tf.Tensor, label: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        draws = tf.cast(order, tf.int32)
        for number in (shard.index, tf.cast(position, tf.int32)):
            draws = tf.random.experimental.stateless_fold_in(draws, number)
        return prepare(encoded, draws), label

    return (
        tf.data.Dataset.range(first_epoch, tf.int64.max)
        .flat_map(epoch_examples)
        .map(prepare_example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(_options())
    )


def eval_batches(
    split: Split, prepare: EvalImage, image_size: int, batch_size: int, num_batches: int, shard: Shard
) -> tf.data.Dataset:
    """`num_batches` batches (uint8 [batch_size, size, size, 3], int32 [batch_size], float32 [batch_size]).

    Every image of the host's shard comes once, with weight 1; black images of weight 0 fill up the last batches, so
    that shapes are static and all hosts make the same number of steps.
    """
    padding = tf.data.Dataset.from_tensors(
        (tf.zeros([image_size, image_size, 3], tf.uint8), tf.constant(0), tf.constant(0.0))
    ).repeat()
    return (
        split.read(None)
        .shard(shard.count, shard.index)
        .map(lambda encoded, label: (prepare(encoded), label, 1.0), num_parallel_calls=tf.data.AUTOTUNE)
        .concatenate(padding)
        .batch(batch_size, drop_remainder=True)
        .take(num_batches)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(_options())
    )


@contextlib.contextmanager
def explained_errors(source: str) -> Iterator[None]:
    """Turns what TensorFlow says of an unreadable image or shard into a UserError; `source` names the images."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
        if "IteratorGetNext" not in error.message:  # the model's, not the data's
            raise
        lines = [
            line
            for line in error.message.splitlines()
            if line and not line.startswith(("\t", "Graph", "Detected", "<"))
        ]
        raise UserError(
            f"{source}: an image or a shard cannot be read: {lines[0] if lines else error.message}\n"
            "`main.py make-tfrecords` on a folder names the images that do not decode and leaves them out."
        ) from error


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # Sharding is ours: images, not files, and the same on every run.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # One image is one thread's work; more threads inside an op only wait for each other.
    options.threading.max_intra_op_parallelism = 1
    return options
