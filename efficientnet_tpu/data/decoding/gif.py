"""GIF files inside TensorFlow's graphs: their first frame.

TensorFlow decodes all frames of an animation to return one, and cuts a first frame that does not begin in the canvas's
corner. Here only the first frame is decoded.
"""

import tensorflow as tf

from efficientnet_tpu.data.decoding.file_bytes import read_bytes, require

# Far more than images have. Without limits, a crafted file would keep a core busy for minutes.
_MOST_EXTENSIONS, _MOST_STEPS = 1000, 50_000


def read_size(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height and width of the first frame, which need not fill the canvas: string scalar -> int32 [2]."""
    data = tf.io.decode_raw(encoded, tf.uint8)
    low_and_high = tf.reshape(tf.cast(data[_frame_begin(data) + 5 :][:4], tf.int32), [2, 2])
    return (low_and_high[:, 0] + 256 * low_and_high[:, 1])[::-1]


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes the first frame: string scalar -> uint8 [height, width, 3].

    TensorFlow gets a file without other frames, in which the first lies in the corner.
    """
    data = tf.io.decode_raw(encoded, tf.uint8)
    begin = _frame_begin(data)
    end = _after_sub_blocks(data, begin + 11 + _color_table_bytes(data, begin + 9))
    before, frame = read_bytes(encoded, 0, begin + 1), read_bytes(encoded, begin + 5, end - begin - 5)
    return tf.io.decode_image(before + b"\0\0\0\0" + frame + b";", channels=3, expand_animations=False)


def _frame_begin(data: tf.Tensor) -> tf.Tensor:
    """Finds the first frame's descriptor, behind the colors and any extensions. data: uint8 [bytes].

    Raises InvalidArgumentError if there is none.
    """
    (begin,) = tf.while_loop(
        lambda position: tf.equal(data[position], 0x21),
        lambda position: [_after_sub_blocks(data, position + 2)],
        [13 + _color_table_bytes(data, 10)],
        maximum_iterations=_MOST_EXTENSIONS,
    )
    with tf.control_dependencies([require(tf.equal(data[begin], 0x2C), "GIF without an image")]):
        return tf.identity(begin)


def _after_sub_blocks(data: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Returns the position behind a chain of blocks, each of which begins with its length; the last is empty."""

    def next_block(position: tf.Tensor) -> list[tf.Tensor]:
        # Most blocks are full: skipping up to 256 of them at a step is 8 times as fast as one by one.
        is_full = tf.cast(tf.equal(data[position : position + 2**16 : 256], 255), tf.int32)
        num_full = tf.argmin(tf.concat([is_full, [0]], axis=0), output_type=tf.int32)
        return [position + tf.where(num_full > 0, 256 * num_full, 1 + tf.cast(data[position], tf.int32))]

    (last,) = tf.while_loop(lambda position: data[position] > 0, next_block, [position], maximum_iterations=_MOST_STEPS)
    return last + 1


def _color_table_bytes(data: tf.Tensor, position: int | tf.Tensor) -> tf.Tensor:
    """Returns the size of the table that the flags at `position` announce."""
    flags = tf.cast(data[position], tf.int32)
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)
