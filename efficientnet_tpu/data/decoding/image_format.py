"""Image files inside TensorFlow's graphs: their size from the header, and their pixels.

The size is checked before anything is decoded, so that a file which claims 60000 x 60000 pixels costs no memory.
TensorFlow reads JPEG and PNG well. Its other decoders have faults, which this file works around:

- GIF: it decodes all frames of an animation to return one, and cuts a first frame that does not begin in the canvas's
  corner. Here only the first frame is decoded.
- BMP: it takes the indices into a palette for gray levels. Here they are looked up.
- WebP: it refuses transparency when three channels are requested. Here it is dropped, as that of a PNG is.

As in the reference, the orientation in a JPEG's EXIF data is not applied.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from efficientnet_tpu.data.decoding.image_header import BMP_MASKS

# Pillow's limit, and TensorFlow's for a JPEG: 512 MiB of RGB.
MAX_PIXELS = 178_956_970

_PNG, _GIF, _BMP, _WEBP = b"\x89PNG", b"GIF8", b"BM", b"RIFF"
_BMP_HEADER = 14  # bytes; the header of the image follows
# Far more than images have. Without limits, a crafted file would keep a core busy for minutes.
_MOST_GIF_EXTENSIONS, _MOST_GIF_STEPS = 1000, 50_000


def image_shape(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height, width and channels from the header of an image file: string scalar -> int32 [3].

    The channels are the file's for a JPEG, else 3. Raises InvalidArgumentError unless the file is a JPEG, PNG, GIF, BMP
    or WebP of at most MAX_PIXELS. The data behind the header may still be damaged.
    """
    return tf.cond(tf.io.is_jpeg(encoded), lambda: jpeg_shape(encoded), lambda: _shape_of_other(encoded))


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes an image file, of an animation the first frame: string scalar -> uint8 [height, width, 3].

    Raises InvalidArgumentError for a file that cannot be decoded. If `image_shape` refuses it, no memory is allocated
    for pixels.
    """
    image = tf.cond(tf.io.is_jpeg(encoded), lambda: _decode_jpeg(encoded), lambda: decode_other(encoded))
    return tf.ensure_shape(image, [None, None, 3])


def jpeg_shape(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height, width and channels of a JPEG: string scalar -> int32 [3].

    `image_shape` without its branch, which takes longer than the rest.
    """
    return _limited(tf.image.extract_jpeg_shape(encoded))


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([jpeg_shape(encoded)]):
        return tf.io.decode_jpeg(encoded, channels=3)


# Not inlined: tf.data visits every operation of a branch that is not taken, which costs a JPEG 25 us.
_not_inlined = tf.function(
    input_signature=[tf.TensorSpec([], tf.string)], autograph=False, experimental_attributes={"_noinline": True}
)


@_not_inlined
def _shape_of_other(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height, width and 3 channels of a file that is no JPEG."""
    return _limited(tf.concat([_by_format(encoded, _png_size, _gif_size, _bmp_size, _webp_size), [3]], axis=0))


@_not_inlined
def decode_other(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes an image file that is no JPEG: string scalar -> uint8 [height, width, 3]."""
    with tf.control_dependencies([_shape_of_other(encoded)]):
        return _by_format(tf.identity(encoded), _decode_png, _decode_gif, _decode_bmp, _decode_webp)


def _limited(shape: tf.Tensor) -> tf.Tensor:
    """Raises InvalidArgumentError for more than MAX_PIXELS."""
    num_pixels = tf.reduce_prod(tf.cast(shape[:2], tf.int64))
    with tf.control_dependencies([tf.debugging.Assert(num_pixels <= MAX_PIXELS, ["too many pixels", shape])]):
        return tf.identity(shape)


def _by_format(encoded: tf.Tensor, *functions: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Applies the function of the file's format. functions: for PNG, GIF, BMP and WebP."""
    start = _piece(encoded, 0, 4)
    is_format = tf.stack([_piece(start, 0, len(magic)) == magic for magic in (_PNG, _GIF, _BMP, _WEBP)])
    with tf.control_dependencies([_require(tf.reduce_any(is_format), "neither JPEG, PNG, GIF, BMP nor WebP")]):
        format_index = tf.argmax(is_format, output_type=tf.int32)
    return tf.switch_case(format_index, [functools.partial(function, encoded) for function in functions])


def _require(holds: tf.Tensor, otherwise: str) -> tf.Operation | None:
    """Raises InvalidArgumentError unless it holds."""
    return tf.debugging.Assert(holds, [otherwise])


def _piece(encoded: tf.Tensor, position: int | tf.Tensor, num_bytes: int | tf.Tensor) -> tf.Tensor:
    """Returns bytes of a file, fewer where it ends.

    A position behind the end would raise an error that quotes the file, which Python cannot decode.
    """
    return tf.strings.substr(encoded, tf.minimum(position, tf.strings.length(encoded)), num_bytes)


def _numbers(encoded: tf.Tensor, position: int, kind: tf.DType, count: int, little_endian: bool = True) -> tf.Tensor:
    """Reads numbers of a file from `position` on, int32 [count]. InvalidArgumentError if the file ends before."""
    piece = _piece(encoded, position, count * kind.size)
    return tf.ensure_shape(tf.cast(tf.io.decode_raw(piece, kind, little_endian), tf.int32), [count])


def _png_size(encoded: tf.Tensor) -> tf.Tensor:
    return _numbers(encoded, 16, tf.int32, 2, little_endian=False)[::-1]


def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_png(encoded, channels=3)


def _gif_size(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the size of the first frame, which need not fill the canvas."""
    data = tf.io.decode_raw(encoded, tf.uint8)
    low_and_high = tf.reshape(tf.cast(data[_gif_frame_begin(data) + 5 :][:4], tf.int32), [2, 2])
    return (low_and_high[:, 0] + 256 * low_and_high[:, 1])[::-1]


def _decode_gif(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes the first frame, moved to the corner of a file without other frames."""
    data = tf.io.decode_raw(encoded, tf.uint8)
    begin = _gif_frame_begin(data)
    end = _after_sub_blocks(data, begin + 11 + _color_table_bytes(data, begin + 9))
    before, frame = _piece(encoded, 0, begin + 1), _piece(encoded, begin + 5, end - begin - 5)
    return tf.io.decode_image(before + b"\0\0\0\0" + frame + b";", channels=3, expand_animations=False)


def _gif_frame_begin(data: tf.Tensor) -> tf.Tensor:
    """Finds the first frame's descriptor, behind the colors and any extensions. data: uint8 [bytes].

    Raises InvalidArgumentError if there is none.
    """
    (begin,) = tf.while_loop(
        lambda position: tf.equal(data[position], 0x21),
        lambda position: [_after_sub_blocks(data, position + 2)],
        [13 + _color_table_bytes(data, 10)],
        maximum_iterations=_MOST_GIF_EXTENSIONS,
    )
    with tf.control_dependencies([_require(tf.equal(data[begin], 0x2C), "GIF without an image")]):
        return tf.identity(begin)


def _after_sub_blocks(data: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Returns the position behind a chain of blocks, each of which begins with its length; the last is empty."""

    def next_block(position: tf.Tensor) -> list[tf.Tensor]:
        # Most blocks are full: skipping up to 256 of them at a step is 8 times as fast as one by one.
        is_full = tf.cast(tf.equal(data[position : position + 2**16 : 256], 255), tf.int32)
        num_full = tf.argmin(tf.concat([is_full, [0]], axis=0), output_type=tf.int32)
        return [position + tf.where(num_full > 0, 256 * num_full, 1 + tf.cast(data[position], tf.int32))]

    (last,) = tf.while_loop(
        lambda position: data[position] > 0, next_block, [position], maximum_iterations=_MOST_GIF_STEPS
    )
    return last + 1


def _color_table_bytes(data: tf.Tensor, position: int | tf.Tensor) -> tf.Tensor:
    """Returns the size of the table that the flags at `position` announce."""
    flags = tf.cast(data[position], tf.int32)
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)


def _bmp_size(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the size. A negative height means that rows are stored from the top."""
    return tf.abs(_numbers(encoded, 18, tf.int32, 2)[::-1])


def _decode_bmp(encoded: tf.Tensor) -> tf.Tensor:
    bits = _numbers(encoded, 28, tf.uint16, 1)[0]
    compression = _numbers(encoded, 30, tf.int32, 1)[0]
    plain = (compression == 0) | ((bits == 32) & (compression == 3) & (_piece(encoded, 54, 12) == BMP_MASKS))
    with tf.control_dependencies([_require(plain, "compressed BMP")]):
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return tf.cond(bits == 8, lambda: tf.gather(_bmp_palette(encoded), tf.cast(image[..., 0], tf.int32)), lambda: image)


def _bmp_palette(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the colors, then black: uint8 [256, 3]. They are stored as blue, green, red and an unused byte."""
    begin = _BMP_HEADER + _numbers(encoded, 14, tf.int32, 1)[0]
    num_bytes = _numbers(encoded, 10, tf.int32, 1)[0] - begin  # the pixels follow
    with tf.control_dependencies([_require((begin >= 0) & (num_bytes >= 0), "BMP with its pixels before its colors")]):
        stored = _piece(encoded, begin, num_bytes)
    colors = tf.reshape(tf.io.decode_raw(stored, tf.uint8, fixed_length=1024), [256, 4])
    return colors[:, 2::-1]


def _webp_size(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the size from the first chunk, which is lossy, lossless, or the canvas of an extended file.

    Refuses animations: TensorFlow 2.20 and 2.21 write four channels of them into memory for three, and crash.
    """
    kind = _piece(encoded, 8, 8)
    kinds = tf.stack([kind == b"WEBPVP8 ", kind == b"WEBPVP8L", kind == b"WEBPVP8X"])
    flags = _numbers(encoded, 20, tf.uint8, 1)[0]
    is_still = tf.reduce_any(kinds) & ~(kinds[2] & (flags // 2 % 2 == 1))
    with tf.control_dependencies([_require(is_still, "neither a WebP nor without animation")]):
        kind_index = tf.argmax(kinds, output_type=tf.int32)
    return tf.switch_case(
        kind_index,
        [
            lambda: _numbers(encoded, 26, tf.uint16, 2)[::-1] % 2**14,
            lambda: 1 + _numbers(encoded, 21, tf.int32, 1) // [2**14, 1] % 2**14,
            lambda: (
                1 + tf.reduce_sum(tf.reshape(_numbers(encoded, 24, tf.uint8, 6), [2, 3]) * [1, 2**8, 2**16], 1)[::-1]
            ),
        ],
    )


def _decode_webp(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(encoded, expand_animations=False)[..., :3]
