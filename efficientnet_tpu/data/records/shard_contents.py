"""Counts a shard's images and finds their labels or names of classes, by reading the shard whole."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.data.decoding.unreadable_reason import load_error_reason
from efficientnet_tpu.data.records.record_file import RECORD_OVERHEAD, compression_of, readable_records
from efficientnet_tpu.data.records.record_keys import RecordKeys
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import program
from efficientnet_tpu.texts.printable import shown

_AT_A_TIME = 1024


@dataclass(frozen=True)
class ShardContents:
    """A shard: how it is compressed, its images, the lowest and highest label as stored, the names of its classes.

    Of a shard without images, or with names, lowest and highest are None.
    """

    compression: str
    num_images: int
    lowest: int | None = None
    highest: int | None = None
    names: frozenset[str] = frozenset()


def read_contents(path: str, keys: RecordKeys) -> ShardContents:
    """Reads a shard. Raises UserError for a damaged one, and for records without the keys."""
    num_images = num_bytes = 0
    labels: set[int | str] = set()
    damaged = ""
    compression = ""
    try:
        compression = compression_of(path)
        records = tf.data.TFRecordDataset(path, compression)
        found = records.map(lambda record: (tf.strings.length(record), keys.parse_stored(record)[1]))
        for lengths, stored in found.batch(_AT_A_TIME).as_numpy_iterator():
            num_images += len(lengths)
            num_bytes += int(lengths.sum(dtype=np.int64)) + RECORD_OVERHEAD * len(lengths)
            labels.update(np.unique(stored).tolist())
        # Cut off where a record's length should be: no error.
        if not compression and num_bytes != tf.io.gfile.stat(path).length:
            damaged = readable_records(path)[1]
    except (tf.errors.DataLossError, UnicodeDecodeError):
        damaged = readable_records(path)[1]
    except tf.errors.OpError as error:
        raise UserError(
            f"{path}: not a shard of images as `{program()} make-tfrecords` writes them: {load_error_reason(error)}"
        ) from error
    if damaged:
        raise UserError(f"{path}: {damaged}. Copy the shard again, or write it again.")
    if keys.has_names:
        return ShardContents(compression, num_images, names=frozenset(_decoded(name, path) for name in labels))
    return ShardContents(compression, num_images, min(labels, default=None), max(labels, default=None))


def _decoded(name: bytes, path: str) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the class {shown(name, 80)}: its name is not UTF-8. Write it as that.") from error
