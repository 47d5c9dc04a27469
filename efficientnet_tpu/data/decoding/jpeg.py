"""JPEG files of more scans than any camera or program writes, inside TensorFlow's graphs.

Each scan of a progressive file goes over the whole picture. A few bytes make one, so that a file of a megabyte can keep
a core busy for minutes.
"""

import functools

import tensorflow as tf

from efficientnet_tpu.data.decoding.file_bytes import not_inlined, read_bytes, require

# Pixels times scans: 20 scans of the largest picture, 150 of one of 24 megapixels. Programs write about 10.
MOST_SCANNED_PIXELS = 3_600_000_000
START_OF_SCAN = b"\xff\xda"
_SHORTEST_SCAN = 10  # bytes


def require_few_scans(encoded: tf.Tensor, num_pixels: tf.Tensor) -> tf.Tensor:
    """Raises InvalidArgumentError for a JPEG that takes too long to decode. Returns num_pixels.

    encoded: string scalar. num_pixels, the result: int64 scalars. Scans are counted only where the file is long enough
    for so many: of few photographs.
    """
    longest = tf.cast(tf.strings.length(encoded), tf.int64) * num_pixels
    may_have_many = longest > _SHORTEST_SCAN * MOST_SCANNED_PIXELS
    return tf.cond(may_have_many, lambda: _counted(encoded, num_pixels), lambda: num_pixels)


@functools.partial(not_inlined, input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)])
def _counted(encoded: tf.Tensor, num_pixels: tf.Tensor) -> tf.Tensor:
    """Returns num_pixels, an int64 scalar, if there are few scans."""
    few = _num_scans(encoded) * num_pixels <= MOST_SCANNED_PIXELS
    with tf.control_dependencies([require(few, "too many scans")]):
        return tf.identity(num_pixels)


def _num_scans(encoded: tf.Tensor) -> tf.Tensor:
    """Counts the marks that begin a scan: string scalar -> int64 scalar. Thumbnails have some too."""
    length = tf.strings.length(encoded)
    mark = tf.constant(int.from_bytes(START_OF_SCAN, "little"), tf.uint16)
    counts = []
    for begin in (0, 1):  # a mark may begin at an even byte or at an odd one
        pairs = tf.io.decode_raw(read_bytes(encoded, begin, (length - begin) // 2 * 2), tf.uint16)
        counts.append(tf.shape(tf.where(pairs == mark), tf.int64)[0])
    return counts[0] + counts[1]
