"""PNG files inside TensorFlow's graphs."""

import tensorflow as tf

from efficientnet_tpu.config.color import Color
from efficientnet_tpu.data.decoding.background import lay_on
from efficientnet_tpu.data.decoding.file_bytes import contains, read_ints

_KINDS_WITH_ALPHA = (4, 6)  # gray and color with opacities; others may have a transparent color or palette


def read_size(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height and width: string scalar -> int32 [2]."""
    return read_ints(encoded, 16, tf.int32, 2, little_endian=False)[::-1]


def decode(encoded: tf.Tensor, background: Color | None) -> tf.Tensor:
    """Decodes a file: string scalar -> uint8 [height, width, 3]. background: see `image_format.Reading`."""

    def decode_opaque() -> tf.Tensor:
        return tf.io.decode_png(encoded, channels=3)

    if background is None:
        return decode_opaque()
    kind = read_ints(encoded, 25, tf.uint8, 1)[0]
    is_transparent = tf.reduce_any(kind == tf.constant(_KINDS_WITH_ALPHA)) | contains(encoded, "tRNS")
    return tf.cond(is_transparent, lambda: lay_on(tf.io.decode_png(encoded, channels=4), background), decode_opaque)
