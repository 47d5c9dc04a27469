"""BMP files inside TensorFlow's graphs.

TensorFlow takes the indices into a palette for gray levels. Here they are looked up.
"""

import tensorflow as tf

from efficientnet_tpu.config.color import Color
from efficientnet_tpu.data.decoding.background import lay_on
from efficientnet_tpu.data.decoding.file_bytes import read_bytes, read_ints, require
from efficientnet_tpu.data.decoding.image_header import BMP_ALPHA_MASK, BMP_MASKS

_FILE_HEADER = 14  # bytes; the header of the image follows


def read_size(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height and width: string scalar -> int32 [2]. A negative height means that rows begin at the top."""
    return tf.abs(read_ints(encoded, 18, tf.int32, 2)[::-1])


def decode(encoded: tf.Tensor, background: Color | None) -> tf.Tensor:
    """Decodes a file without compression: string scalar -> uint8 [height, width, 3].

    background: see `image_format.Reading`. The fourth byte of a pixel means opacity only where the header says so.
    """
    bits = read_ints(encoded, 28, tf.uint16, 1)[0]
    compression = read_ints(encoded, 30, tf.int32, 1)[0]
    plain = (compression == 0) | ((bits == 32) & (compression == 3) & (read_bytes(encoded, 54, 12) == BMP_MASKS))
    with tf.control_dependencies([require(plain, "compressed BMP")]):
        encoded = tf.identity(encoded)

    def decode_colors() -> tf.Tensor:
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return tf.cond(bits == 8, lambda: tf.gather(_palette(encoded), tf.cast(image[..., 0], tf.int32)), lambda: image)

    if background is None:
        return decode_colors()
    has_alpha = (bits == 32) & (compression == 3) & (read_bytes(encoded, 66, 4) == BMP_ALPHA_MASK)
    has_alpha &= read_ints(encoded, 14, tf.int32, 1)[0] >= 56  # versions of the header that have the mask

    def decode_alpha() -> tf.Tensor:
        return lay_on(tf.io.decode_image(encoded, channels=4, expand_animations=False), background)

    return tf.cond(has_alpha, decode_alpha, decode_colors)


def _palette(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the colors, then black: uint8 [256, 3]. They are stored as blue, green, red and an unused byte."""
    begin = _FILE_HEADER + read_ints(encoded, 14, tf.int32, 1)[0]
    num_bytes = read_ints(encoded, 10, tf.int32, 1)[0] - begin  # the pixels follow
    with tf.control_dependencies([require((begin >= 0) & (num_bytes >= 0), "BMP with its pixels before its colors")]):
        stored = read_bytes(encoded, begin, num_bytes)
    colors = tf.reshape(tf.io.decode_raw(stored, tf.uint8, fixed_length=1024), [256, 4])
    return colors[:, 2::-1]
