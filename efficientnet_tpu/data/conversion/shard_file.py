"""One TFRecord shard of images: writing it, and reading it back, which gives its CRC-32C.

A TFRecord file holds for every record 8 bytes of length, 4 of the length's checksum, the record, and 4 of the record's
checksum. TensorFlow verifies the checksums as it reads, but lends its CRC-32C to nobody, and Python's own would take
0.1 s for a megabyte. So the file's CRC-32C is put together from those of its records.
"""

import functools
import struct
from collections import Counter
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from efficientnet_tpu.data.records.crc32c import ALL, POLYNOMIAL, crc32c, unmasked
from efficientnet_tpu.data.records.record_file import RECORD_OVERHEAD
from efficientnet_tpu.data.records.tfrecord_layout import ENCODED_KEY, LABEL_KEY, ShardInfo
from efficientnet_tpu.storage.durable import sync_file

_AT_A_TIME = 1024  # records
_HEADER_BYTES, _FOOTER_BYTES = 12, 4
_ONE, _X8 = 1 << 31, 1 << 23  # the polynomials 1 and x^8


def write_shard(path: str, images: Iterable[tuple[bytes, int]]) -> tuple[int, int]:
    """Writes (content of an image file, 0-based label) in order. Returns the number of images and of the file's bytes.

    The file is on the disk then. Raises tf.errors.OpError or OSError when it cannot be written.
    """
    num_images = num_bytes = 0
    with tf.io.TFRecordWriter(path) as writer:
        for encoded, label in images:
            features = {
                ENCODED_KEY: tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
                LABEL_KEY: tf.train.Feature(int64_list=tf.train.Int64List(value=[label + 1])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            record = example.SerializeToString(deterministic=True)  # the same images and seed give the same bytes
            writer.write(record)
            num_images += 1
            num_bytes += len(record) + RECORD_OVERHEAD
    sync_file(path)
    return num_images, num_bytes


def read_back(path: str) -> tuple[ShardInfo, Counter[int]]:
    """Reads a whole shard, verifies every record's checksum, and returns what the shard holds: also the number of
    images of each label, from 0 on.

    Raises ValueError, with the reason, when the file is not there, is cut off, has a wrong checksum, or holds a record
    that is no image with a label.
    """
    num_bytes, labels = 0, Counter()
    try:
        records = tf.data.TFRecordDataset(path).map(_length_and_label)
        for lengths, of_batch in records.batch(_AT_A_TIME).as_numpy_iterator():
            num_bytes += int(lengths.sum(dtype=np.int64)) + RECORD_OVERHEAD * len(lengths)
            labels.update((of_batch - 1).tolist())
        size = tf.io.gfile.stat(path).length
        if size != num_bytes:  # cut off inside of a header: no error
            raise ValueError(f"is cut off: of its {size:,} bytes, whole records take {num_bytes:,}")
        return ShardInfo(path.rpartition("/")[2], labels.total(), size, _crc32c_of_file(path)), labels
    except tf.errors.NotFoundError as error:
        raise ValueError("is not there") from error
    except tf.errors.DataLossError as error:
        raise ValueError("is cut off, or has a wrong checksum") from error
    except tf.errors.InvalidArgumentError as error:
        raise ValueError("holds a record that is no image with a label") from error


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _length_and_label(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the bytes of a record, int32 scalar, and its label as stored, int64 scalar."""
    label = tf.io.parse_single_example(record, {LABEL_KEY: tf.io.FixedLenFeature([], tf.int64)})[LABEL_KEY]
    return tf.strings.length(record), label


def _crc32c_of_file(path: str) -> int:
    """Returns the CRC-32C of all bytes of a file whose records have been verified."""
    crc = 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while header := file.read(_HEADER_BYTES):
            (length,) = struct.unpack("<Q", header[:8])
            footer = file.read(length + _FOOTER_BYTES)[length:]
            crc = _product(_power(length), crc32c(header, crc)) ^ unmasked(footer)
            crc = crc32c(footer, crc)
    return crc


def _product(a: int, b: int) -> int:
    """Returns a * b as polynomials over GF(2), modulo Castagnoli's."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = a << 1 & ALL
        b = b >> 1 ^ (POLYNOMIAL if b & 1 else 0)
    return product


@functools.lru_cache(maxsize=1 << 16)
def _power(num_bytes: int) -> int:
    """Returns x^(8 num_bytes): times a checksum, the checksum's part in what is `num_bytes` longer."""
    power, square = _ONE, _X8
    while num_bytes:
        if num_bytes & 1:
            power = _product(square, power)
        square = _product(square, square)
        num_bytes >>= 1
    return power
