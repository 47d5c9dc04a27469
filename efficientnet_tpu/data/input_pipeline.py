"""The streams of batches: the order of images on each host, and their preparation.

The order and every random draw are a function of (seed, epoch, position in the epoch). A run can therefore start at
any step: what was trained on before is skipped while still encoded, which costs reading but no decoding.
"""

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator

import tensorflow as tf

from efficientnet_tpu.data.decoding.unreadable_reason import LOAD_ERRORS
from efficientnet_tpu.data.skip_unreadable import OnSkipped, batch_with_replacements, find_reason, refuse_skips
from efficientnet_tpu.data.split import SINGLE_HOST, HostShard, Split
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import program
from efficientnet_tpu.texts.printable import escaped

# Images prepared at a time: one for each core, each on one thread. Fixed, because TensorFlow's tuning takes longer to
# watch every step than it gains where all cores are busy anyway.
PARALLEL_CALLS = os.cpu_count() or 1
_READ_AT_A_TIME = 64  # images, of a pass that only looks whether they can be read

_OPTIONS = tf.data.Options()
_OPTIONS.deterministic = True
# Sharding is ours: images, not files, and the same on every run.
_OPTIONS.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
# One image is one thread's work; more threads inside an op only wait for each other.
_OPTIONS.threading.max_intra_op_parallelism = 1
_OPTIONS.autotune.enabled = False

# Draws of an image: string scalar, int32 [2] -> uint8 [size, size, 3].
TrainImage = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
EvalImage = Callable[[tf.Tensor], tf.Tensor]


@tf.autograph.experimental.do_not_convert  # to rewrite each function of the pipeline takes seconds, and none needs it
def train_batches(
    split: Split,
    prepare: TrainImage,
    batch_size: int,
    seed: int,
    first_image: int = 0,
    shard: HostShard = SINGLE_HOST,
    on_skipped: OnSkipped = refuse_skips,
) -> tf.data.Dataset:
    """Returns endless batches (images uint8 [batch_size, size, size, 3], labels int32 [batch_size]).

    Epochs follow one another without a gap, batches run on across them: every image comes exactly once per epoch.
    `first_image` counts this host's images already trained on. on_skipped: see `OnSkipped`; by default, an image
    that cannot be read ends the stream.
    """
    epoch_size = shard.num_images(split.num_images)
    first_epoch, first_position = divmod(first_image, epoch_size)
    draws = zlib.crc32(f"{seed} {shard.index}".encode()) - 2**31

    def epoch_handles(epoch: tf.Tensor) -> tf.data.Dataset:
        """(number of the image since the start of the run, handle)"""
        first = tf.where(epoch == first_epoch, tf.constant(first_position, tf.int64), 0)
        order = tf.stack([tf.constant(seed, tf.int64), epoch])
        numbers = tf.data.Dataset.range(epoch * epoch_size + first, (epoch + 1) * epoch_size)
        return tf.data.Dataset.zip(numbers, split.handles(shard, order, first))

    def prepare_example(number: tf.Tensor, handle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        encoded, label = split.load(handle)
        return number, prepare(encoded, tf.stack([draws, tf.cast(number, tf.int32)])), label

    examples = (
        tf.data.Dataset.range(first_epoch, tf.int64.max)
        .flat_map(epoch_handles)
        .map(prepare_example, num_parallel_calls=PARALLEL_CALLS)
    )
    batches = batch_with_replacements(examples, batch_size, first_image, on_skipped)
    return batches.prefetch(2).with_options(_OPTIONS)


@tf.autograph.experimental.do_not_convert
def eval_batches(
    split: Split, prepare: EvalImage, image_size: int, batch_size: int, num_batches: int, shard: HostShard = SINGLE_HOST
) -> tf.data.Dataset:
    """Returns `num_batches` batches (uint8 [batch_size, size, size, 3], int32 [batch_size], float32 [batch_size]).

    Every image of the host's shard comes once, with weight 1; black images of weight 0 fill up the last batches, so
    that shapes are static and all hosts make the same number of steps.
    """

    def prepare_example(handle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        encoded, label = split.load(handle)
        return prepare(encoded), label, tf.constant(1.0)

    padding = tf.data.Dataset.from_tensors(
        (tf.zeros([image_size, image_size, 3], tf.uint8), tf.constant(0), tf.constant(0.0))
    ).repeat()
    return (
        split.handles(shard, None)
        .map(prepare_example, num_parallel_calls=PARALLEL_CALLS)
        .concatenate(padding)
        .batch(batch_size, drop_remainder=True)
        .take(num_batches)
        .prefetch(2)
        .with_options(_OPTIONS)
    )


def first_unreadable(split: Split, prepare: EvalImage, shard: HostShard = SINGLE_HOST) -> str | None:
    """Returns where the first image is, in stored order, that cannot be read, and why; None if all can."""
    position = next(unreadable_positions(split, prepare, shard), None)
    if position is None:
        return None
    return f"{escaped(split.locate(shard, None, position))}: {find_reason(split, shard, None, position)}"


def unreadable_positions(
    split: Split, prepare: EvalImage, shard: HostShard, on_read: Callable[[int], object] = lambda images: None
) -> Iterator[int]:
    """Yields the positions, in stored order, of the images in the host's part that cannot be read. Reads all.

    on_read: is called with the number of images that were read since the last call.
    """

    def readable_number(number: tf.Tensor, handle: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([prepare(split.load(handle)[0])]):
            return tf.identity(number)

    total = shard.num_images(split.num_images)
    numbers = tf.data.Dataset.zip(tf.data.Dataset.range(total), split.handles(shard, None))
    readable = numbers.map(readable_number, num_parallel_calls=PARALLEL_CALLS).ignore_errors()
    expected = 0
    for batch in readable.batch(_READ_AT_A_TIME).prefetch(1).with_options(_OPTIONS).as_numpy_iterator():
        before = expected
        for number in batch.tolist():
            yield from range(expected, number)
            expected = number + 1
        on_read(expected - before)
    yield from range(expected, total)


@contextlib.contextmanager
def explained_errors(flag: str, explain: Callable[[], str | None]) -> Iterator[None]:
    """Turns what TensorFlow says of an unreadable image or shard into a UserError.

    flag: the flag that names the images, with its value; explain: finds out which image it is, and why.
    """
    try:
        yield
    except LOAD_ERRORS as error:
        message = str(error)
        if isinstance(error, tf.errors.OpError) and "IteratorGetNext" not in message:  # the model's, not the data's
            raise
        lines = [
            line for line in message.splitlines() if line and not line.startswith(("\t", "Graph", "Detected", "<"))
        ]
        raise UserError(
            f"{flag}: an image or a shard cannot be read: {explain() or (lines or [message])[0]}\n"
            f"`{program()} check-data` finds all that cannot."
        ) from error
