"""The color behind a picture's transparent parts, inside TensorFlow's graphs."""

import functools
from collections.abc import Callable

import tensorflow as tf

from efficientnet_tpu.config.color import Color
from efficientnet_tpu.data.decoding.file_bytes import not_inlined

_PIXELS_AT_A_TIME = 2**18  # of a large picture: 16-bit copies of all of it would take several times its memory


def lay_on(image: tf.Tensor, color: Color) -> tf.Tensor:
    """Lays a picture on a color: uint8 [height, width, 4], the last channel its opacity -> uint8 [height, width, 3].

    Rounds to the nearest level; what is opaque stays as it is.
    """
    return _layer(color)(image)


@functools.cache
def _layer(color: Color) -> Callable[[tf.Tensor], tf.Tensor]:
    @functools.partial(not_inlined, input_signature=[tf.TensorSpec([None, None, 4], tf.uint8)])
    def lay(image: tf.Tensor) -> tf.Tensor:
        height, width = tf.unstack(tf.shape(image)[:2])
        num_rows = tf.maximum(_PIXELS_AT_A_TIME // width, 1)
        num_parts = -(-height // num_rows)

        def lay_part(part: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            rows = image[part * num_rows : (part + 1) * num_rows]
            return part + 1, parts.write(part, _laid(rows, color))

        _, parts = tf.while_loop(
            lambda part, parts: part < num_parts,
            lay_part,
            [tf.constant(0), tf.TensorArray(tf.uint8, num_parts, infer_shape=False, element_shape=[None, None, 3])],
            parallel_iterations=1,
        )
        return parts.concat()

    return lay


def _laid(image: tf.Tensor, color: Color) -> tf.Tensor:
    """Lays rows on a color: uint8 [rows, width, 4] -> uint8 [rows, width, 3]."""
    levels = tf.cast(image, tf.uint16)
    opacity = levels[..., 3:]
    mixed = levels[..., :3] * opacity + tf.constant(color, tf.uint16) * (255 - opacity) + 128
    # Division by 255 to the nearest whole number, exact for all that 16 bits hold here.
    return tf.cast(tf.bitwise.right_shift(mixed + tf.bitwise.right_shift(mixed, 8), 8), tf.uint8)
