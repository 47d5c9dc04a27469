"""Going on without images that cannot be read: each is replaced by the next one that can, counted and reported.

So no image's place depends on whether others could be read: batches hold what they would have held, and a run that is
resumed meets the same ones.
"""

import functools
import threading
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from efficientnet_tpu.data.decoding.unreadable_reason import LOAD_ERRORS, load_error_reason, unreadable_reason
from efficientnet_tpu.data.split import HostShard, Split
from efficientnet_tpu.data.unreadable_log import UnreadableImages

# Takes numbers int64 [n] of images that had to be replaced; answers whether there are too many of them.
OnSkipped = Callable[[np.ndarray], np.bool_]

# A batch of markers follows so many batches. Each takes a few microseconds.
_BATCHES_BETWEEN_MARKERS = 64
_MARKER = -1


def refuse_skips(numbers: np.ndarray) -> np.bool_:
    """None may be missing."""
    return np.bool_(True)


class SkippedImages:
    """What the streams of training images had to do without.

    A stream notes numbers of images, counted from the start of the run; `report`, between steps, says which they are.
    """

    def __init__(self, split: Split, seed: int, unreadable: UnreadableImages) -> None:
        self._split, self._seed, self._unreadable = split, seed, unreadable
        self._lock = threading.Lock()
        self._noted: list[tuple[HostShard, int]] = []
        self._by_epoch: dict[int, int] = {}
        self._too_many = False

    def recorder(self, shard: HostShard) -> OnSkipped:
        """For the stream of one host: notes numbers, and says whether an epoch misses more than it may."""
        size = shard.num_images(self._split.num_images)

        def note(numbers: np.ndarray) -> np.bool_:
            with self._lock:
                if self._too_many:  # of a stream that has ended, the next batches count as missing
                    return np.bool_(True)
                for number in numbers.tolist():
                    self._noted.append((shard, number))
                    self._by_epoch[number // size] = self._by_epoch.get(number // size, 0) + 1
                self._too_many = max(self._by_epoch.values(), default=0) > self._unreadable.allowed
                return np.bool_(self._too_many)

        return note

    def report(self) -> None:
        """Names the images noted since the last call. Raises UserError when there are too many."""
        with self._lock:
            noted, self._noted = self._noted, []
        for shard, number in noted:
            epoch, position = divmod(number, shard.num_images(self._split.num_images))
            order = tf.constant([self._seed, epoch], tf.int64)
            where = self._split.locate(shard, order, position)
            self._unreadable.add(where, find_reason(self._split, shard, order, position))
        self._unreadable.check()


def find_reason(split: Split, shard: HostShard, order: tf.Tensor | None, position: int) -> str:
    """Why the image at a position cannot be read, in plain words."""
    (handle,) = split.handles(shard, order, position).take(1)
    try:
        encoded, _ = split.load(handle)
    except LOAD_ERRORS as error:
        return load_error_reason(error)
    return unreadable_reason(encoded.numpy()) or "decodes, but cannot be prepared"


def batch_with_replacements(examples: tf.data.Dataset, batch_size: int, first: int, note: OnSkipped) -> tf.data.Dataset:
    """Batches (images, labels) of (number int64, image, label), whose numbers count up from `first`.

    An example that raises is replaced by the next one that does not. note: see `SkippedImages.recorder`; when it says that
    there are too many, the stream ends with an error.
    """
    fill = functools.partial(_fill, batch_size=batch_size, first=first, note=note)
    beginning = [tf.constant(number, tf.int64) for number in (first - 1, first, 0)]
    # Batches that need no filling go through as they are; after one that did, they are cut anew.
    return (
        _with_markers(examples, batch_size)
        .ignore_errors()
        .batch(batch_size)
        .scan(tuple(beginning), fill)
        .rebatch(batch_size, drop_remainder=True)
    )


def _with_markers(examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """A batch of markers after every 64 batches' worth of examples, whether those can be read or not.

    Were all to fail, nothing would come through, and no one would know why. Markers never fail.
    """
    _, image, label = examples.element_spec
    marker = (tf.constant(_MARKER, tf.int64), tf.zeros(image.shape, image.dtype), tf.zeros(label.shape, label.dtype))
    markers = tf.data.Dataset.from_tensors(marker).repeat()
    example_turn, marker_turn = (tf.data.Dataset.from_tensors(tf.constant(turn, tf.int64)) for turn in (0, 1))
    turns = example_turn.repeat(_BATCHES_BETWEEN_MARKERS * batch_size).concatenate(marker_turn.repeat(batch_size))
    return tf.data.Dataset.choose_from_datasets([examples, markers], turns.repeat())


def _fill(
    state: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    batch: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    batch_size: int,
    first: int,
    note: OnSkipped,
) -> tuple[tuple[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Drops a batch's markers and repeats examples so often that the numbers missing before them are made up for.

    state: the last number that came through, the first that need not be noted any more, markers so far; int64.
    """
    last, noted, num_markers = state
    numbers, images, labels = batch
    is_example = numbers != _MARKER
    present = tf.boolean_mask(numbers, is_example)
    before = tf.concat([[last], present], axis=0)[:-1]
    counts = present - before

    def filled() -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.repeat(tf.where(is_example)[:, 0], counts)
        return tf.gather(images, rows), tf.gather(labels, rows)

    complete = tf.reduce_all(is_example) & tf.reduce_all(counts == 1)
    filled_batch = tf.cond(complete, lambda: (images, labels), filled)

    last = tf.reduce_max(tf.concat([[last], present], axis=0))
    missing = tf.ragged.range(tf.maximum(before + 1, noted), tf.maximum(present, noted)).values
    noted = tf.maximum(noted, last + 1)
    num_markers += tf.reduce_sum(tf.cast(~is_example, tf.int64))
    # A marker at the end says what has been tried by then.
    tried = first + (num_markers + batch_size - 1) // batch_size * (_BATCHES_BETWEEN_MARKERS * batch_size)
    tried = tf.where(is_example[-1], noted, tf.maximum(noted, tried))
    missing = tf.concat([missing, tf.range(noted, tried)], axis=0)
    too_many = tf.cond(
        tf.size(missing) > 0,
        lambda: tf.ensure_shape(tf.numpy_function(note, [missing], tf.bool), []),
        lambda: tf.constant(False),
    )
    with tf.control_dependencies([tf.debugging.Assert(~too_many, ["too many images cannot be read"])]):
        return (last, tf.identity(tried), num_markers), filled_batch
