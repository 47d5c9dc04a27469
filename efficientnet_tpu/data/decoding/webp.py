"""WebP files inside TensorFlow's graphs.

TensorFlow refuses transparency when three channels are requested.
"""

import tensorflow as tf

from efficientnet_tpu.config.color import Color
from efficientnet_tpu.data.decoding.background import lay_on
from efficientnet_tpu.data.decoding.file_bytes import read_bytes, read_ints, require

HAS_DECODER = hasattr(tf.raw_ops, "DecodeWebP")  # from TensorFlow 2.20 on


def read_size(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height and width from the first chunk: string scalar -> int32 [2].

    The chunk is lossy, lossless, or the canvas of an extended file.

    Refuses animations: TensorFlow 2.20 and 2.21 write four channels of them into memory for three, and crash.
    """
    kind = read_bytes(encoded, 8, 8)
    kinds = tf.stack([kind == b"WEBPVP8 ", kind == b"WEBPVP8L", kind == b"WEBPVP8X"])
    flags = read_ints(encoded, 20, tf.uint8, 1)[0]
    is_still = tf.reduce_any(kinds) & ~(kinds[2] & (flags // 2 % 2 == 1))
    with tf.control_dependencies([require(is_still, "neither a WebP nor without animation")]):
        kind_index = tf.argmax(kinds, output_type=tf.int32)
    return tf.switch_case(
        kind_index,
        [
            lambda: read_ints(encoded, 26, tf.uint16, 2)[::-1] % 2**14,
            lambda: 1 + read_ints(encoded, 21, tf.int32, 1) // [2**14, 1] % 2**14,
            lambda: (
                1 + tf.reduce_sum(tf.reshape(read_ints(encoded, 24, tf.uint8, 6), [2, 3]) * [1, 2**8, 2**16], 1)[::-1]
            ),
        ],
    )


def decode(encoded: tf.Tensor, background: Color | None) -> tf.Tensor:
    """Decodes a file: string scalar -> uint8 [height, width, 3]. background: see `image_format.Reading`."""
    image = tf.io.decode_image(encoded, expand_animations=False)
    if background is None:
        return image[..., :3]
    return tf.cond(tf.shape(image)[-1] == 4, lambda: lay_on(image, background), lambda: image[..., :3])
