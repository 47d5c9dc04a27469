"""GIF files inside TensorFlow's graphs: their first frame.

TensorFlow decodes all frames of an animation to return one, and cuts a first frame that does not begin in the canvas's
corner. Here only the first frame is decoded. TensorFlow makes transparent pixels black; here they get the background's
color, which takes the place of the one that is declared transparent.
"""

import functools

import tensorflow as tf

from efficientnet_tpu.config.color import Color
from efficientnet_tpu.data.decoding.file_bytes import not_inlined, read_bytes, replaced, require

# Far more than images have. Without limits, a crafted file would keep a core busy for minutes.
_MOST_EXTENSIONS, _MOST_STEPS = 1000, 50_000
_GRAPHIC_CONTROL = 0xF9  # the extension that may declare a color transparent


def read_size(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height and width of the first frame, which need not fill the canvas: string scalar -> int32 [2]."""
    data = tf.io.decode_raw(encoded, tf.uint8)
    begin, _ = _find_frame(data)
    low_and_high = tf.reshape(tf.cast(data[begin + 5 :][:4], tf.int32), [2, 2])
    return (low_and_high[:, 0] + 256 * low_and_high[:, 1])[::-1]


def decode(encoded: tf.Tensor, background: Color | None) -> tf.Tensor:
    """Decodes the first frame: string scalar -> uint8 [height, width, 3]. background: see `image_format.Reading`.

    TensorFlow gets a file without other frames, in which the first lies in the corner.
    """
    data = tf.io.decode_raw(encoded, tf.uint8)
    begin, control = _find_frame(data)
    if background is not None:
        encoded = _without_transparency(encoded, data, begin, control, bytes(background))
    end = _after_sub_blocks(data, begin + 11 + _color_table_bytes(data, begin + 9))
    before, frame = read_bytes(encoded, 0, begin + 1), read_bytes(encoded, begin + 5, end - begin - 5)
    return tf.io.decode_image(before + b"\0\0\0\0" + frame + b";", channels=3, expand_animations=False)


def _without_transparency(
    encoded: tf.Tensor, data: tf.Tensor, begin: tf.Tensor, control: tf.Tensor, color: bytes
) -> tf.Tensor:
    """Returns the file with the background's color in place of the transparent one, if one is: string scalars.

    data: uint8 [bytes], the file's. begin, control: int32 scalars, see `_find_frame`.
    """
    own_bytes = _color_table_bytes(data, begin + 9)
    table, num_bytes = tf.cond(
        own_bytes > 0, lambda: (begin + 10, own_bytes), lambda: (tf.constant(13), _color_table_bytes(data, 10))
    )
    flags, transparent = (tf.cast(data[control + index], tf.int32) for index in (3, 6))
    is_declared = (control > 0) & (flags % 2 == 1) & (3 * transparent < num_bytes)

    def opaque() -> tf.Tensor:
        return replaced(replaced(encoded, control + 3, b"\0"), table + 3 * transparent, color)

    return tf.cond(is_declared, opaque, lambda: encoded)


@functools.partial(not_inlined, input_signature=[tf.TensorSpec([None], tf.uint8)])
def _find_frame(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the first frame's descriptor, behind the colors and any extensions, and the last of these that may declare
    a color transparent: 0 where none does. data: uint8 [bytes]. Returns int32 scalars.

    Raises InvalidArgumentError if there is no frame.
    """

    def next_extension(position: tf.Tensor, control: tf.Tensor) -> list[tf.Tensor]:
        is_control = (data[position + 1] == _GRAPHIC_CONTROL) & (data[position + 2] == 4)
        return [_after_sub_blocks(data, position + 2), tf.where(is_control, position, control)]

    begin, control = tf.while_loop(
        lambda position, control: tf.equal(data[position], 0x21),
        next_extension,
        [13 + _color_table_bytes(data, 10), tf.constant(0)],
        maximum_iterations=_MOST_EXTENSIONS,
    )
    with tf.control_dependencies([require(tf.equal(data[begin], 0x2C), "GIF without an image")]):
        return tf.identity(begin), tf.identity(control)


@functools.partial(not_inlined, input_signature=[tf.TensorSpec([None], tf.uint8), tf.TensorSpec([], tf.int32)])
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
