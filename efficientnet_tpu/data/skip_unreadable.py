"""Training goes on without images that cannot be read: the next readable image replaces each, and it is reported.

The place of an image does not depend on whether other images can be read. Batches have the same size, and a resumed run
gets the same batches.
"""

import functools
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from efficientnet_tpu.data.decoding.unreadable_reason import LOAD_ERRORS, load_error_reason, unreadable_reason
from efficientnet_tpu.data.split import HostShard, Split
from efficientnet_tpu.data.unreadable_log import UnreadableImages

# Takes numbers int64 [skipped] of images that were replaced. Returns whether there are too many of them.
OnSkipped = Callable[[np.ndarray], np.bool_]

# A batch of markers follows so many batches. Each takes a few microseconds.
_BATCHES_BETWEEN_MARKERS = 64
_MARKER = -1  # in place of an image's number


def refuse_skips(numbers: np.ndarray) -> np.bool_:
    """Allows no image to be skipped. numbers: int64 [skipped]."""
    return np.bool_(True)


class SkippedImages:
    """The training images that streams have skipped.

    A stream records numbers of images, counted from the start of the run. `report` names them between steps.
    """

    def __init__(self, split: Split, seed: int, unreadable: UnreadableImages) -> None:
        self._split, self._seed, self._unreadable = split, seed, unreadable
        self._lock = threading.Lock()
        self._recorded: list[tuple[HostShard, int]] = []
        self._by_epoch: dict[int, int] = {}
        self._too_many = False

    def recorder(self, shard: HostShard) -> OnSkipped:
        """Returns the function for the stream of one host. It records numbers, int64 [skipped], and returns whether an
        epoch has more skipped images than are allowed.
        """
        size = shard.num_images(self._split.num_images)

        def record(numbers: np.ndarray) -> np.bool_:
            with self._lock:
                if self._too_many:  # the stream has ended, and its remaining images look skipped
                    return np.bool_(True)
                for number in numbers.tolist():
                    self._recorded.append((shard, number))
                    self._by_epoch[number // size] = self._by_epoch.get(number // size, 0) + 1
                self._too_many = max(self._by_epoch.values(), default=0) > self._unreadable.allowed
                return np.bool_(self._too_many)

        return record

    def report(self) -> None:
        """Names the images recorded since the last call. Raises UserError when there are too many."""
        with self._lock:
            recorded, self._recorded = self._recorded, []
        for shard, number in recorded:
            epoch, position = divmod(number, shard.num_images(self._split.num_images))
            order = tf.constant([self._seed, epoch], tf.int64)
            where = self._split.locate(shard, order, position)
            self._unreadable.add(where, find_reason(self._split, shard, order, position))
        self._unreadable.check()


def find_reason(split: Split, shard: HostShard, order: tf.Tensor | None, position: int) -> str:
    """Returns why the image at a position cannot be read, in plain words. order: int64 [2] or None, as in `Split`."""
    (handle,) = split.handles(shard, order, position).take(1)
    try:
        encoded, _ = split.load(handle)
    except LOAD_ERRORS as error:
        return load_error_reason(error)
    return unreadable_reason(encoded.numpy()) or "decodes, but cannot be prepared"


def batch_with_replacements(
    examples: tf.data.Dataset, batch_size: int, first: int, on_skipped: OnSkipped
) -> tf.data.Dataset:
    """Batches examples, with the next readable example in the place of each that raises an error.

    examples: (number int64 [], image, label), whose numbers count up from `first`. on_skipped: gets the numbers of
    replaced examples; the stream ends with an error when it returns True. Returns batches (images, labels).
    """
    # A batch of markers comes after the place of every 64 batches of examples. Markers are always readable. Without
    # them a stream in which every image fails would never return.
    _, image, label = examples.element_spec
    marker = (tf.constant(_MARKER, tf.int64), tf.zeros(image.shape, image.dtype), tf.zeros(label.shape, label.dtype))
    markers = tf.data.Dataset.from_tensors(marker).repeat()
    example_turn, marker_turn = (tf.data.Dataset.from_tensors(tf.constant(turn, tf.int64)) for turn in (0, 1))
    turns = example_turn.repeat(_BATCHES_BETWEEN_MARKERS * batch_size).concatenate(marker_turn.repeat(batch_size))
    marked = tf.data.Dataset.choose_from_datasets([examples, markers], turns.repeat())
    start = _ScanState(*(tf.constant(number, tf.int64) for number in (first - 1, first, 0)))
    replace = functools.partial(_replace, batch_size=batch_size, first=first, on_skipped=on_skipped)
    # Batches without replacements pass unchanged. After a batch with replacements all are cut anew.
    return marked.ignore_errors().batch(batch_size).scan(start, replace).rebatch(batch_size, drop_remainder=True)


class _ScanState(NamedTuple):
    """The state of the stream before a batch: int64 scalars."""

    last: tf.Tensor  # number of the last example that was read
    unreported: tf.Tensor  # the first number that was neither read nor reported as skipped
    num_markers: tf.Tensor


def _replace(
    state: _ScanState,
    batch: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    batch_size: int,
    first: int,
    on_skipped: OnSkipped,
) -> tuple[_ScanState, tuple[tf.Tensor, tf.Tensor]]:
    """Drops a batch's markers, and repeats an example once for every number that is missing right before it.

    batch: (numbers int64 [rows], images [rows, ...], labels [rows]) with `_MARKER` as the number of a marker.
    """
    numbers, images, labels = batch
    is_example = numbers != _MARKER
    present = tf.boolean_mask(numbers, is_example)
    previous = tf.concat([[state.last], present], axis=0)[:-1]
    copies = present - previous  # 1 where no number is missing

    def repeated() -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.repeat(tf.where(is_example)[:, 0], copies)
        return tf.gather(images, rows), tf.gather(labels, rows)

    complete = tf.reduce_all(is_example) & tf.reduce_all(copies == 1)
    without_gaps = tf.cond(complete, lambda: (images, labels), repeated)

    last = tf.reduce_max(tf.concat([[state.last], present], axis=0))
    num_markers = state.num_markers + tf.reduce_sum(tf.cast(~is_example, tf.int64))
    between = tf.ragged.range(
        tf.maximum(previous + 1, state.unreported), tf.maximum(present, state.unreported)
    ).values  # skipped before an example of this batch
    unreported = tf.maximum(state.unreported, last + 1)
    # A marker at the end of the batch shows that all examples before its place were tried.
    rounds = (num_markers + batch_size - 1) // batch_size
    tried = tf.maximum(unreported, first + rounds * (_BATCHES_BETWEEN_MARKERS * batch_size))
    tried = tf.where(is_example[-1], unreported, tried)
    skipped = tf.concat([between, tf.range(unreported, tried)], axis=0)
    too_many = tf.cond(
        tf.size(skipped) > 0,
        lambda: tf.ensure_shape(tf.numpy_function(on_skipped, [skipped], tf.bool), []),
        lambda: tf.constant(False),
    )
    with tf.control_dependencies([tf.debugging.Assert(~too_many, ["too many images cannot be read"])]):
        return _ScanState(last, tf.identity(tried), num_markers), without_gaps
