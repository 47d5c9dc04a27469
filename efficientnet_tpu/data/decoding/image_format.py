"""Image files inside TensorFlow's graphs: their size from the header, and their pixels.

The size is checked before anything is decoded, so that a file which claims 60000 x 60000 pixels costs no memory.
TensorFlow reads JPEG and PNG well. The modules `gif`, `bmp` and `webp` work around faults of its other decoders.

As in the reference, the orientation in a JPEG's EXIF data is not applied.
"""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from efficientnet_tpu.data.decoding import bmp, gif, webp
from efficientnet_tpu.data.decoding.file_bytes import read_bytes, read_ints, require

# Pillow's limit, and TensorFlow's for a JPEG: 512 MiB of RGB.
MAX_PIXELS = 178_956_970

Function = Callable[[tf.Tensor], tf.Tensor]

# First bytes of a file -> its height and width, int32 [2], and its pixels, uint8 [height, width, 3]. Not of JPEG, which
# goes another way: decoding a window of it is cheaper.
_FORMATS: dict[bytes, tuple[Function, Function]] = {
    b"\x89PNG": (
        lambda encoded: read_ints(encoded, 16, tf.int32, 2, little_endian=False)[::-1],
        functools.partial(tf.io.decode_png, channels=3),
    ),
    b"GIF8": (gif.read_size, gif.decode),
    b"BM": (bmp.read_size, bmp.decode),
    b"RIFF": (webp.read_size, webp.decode),
}


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

    def decode_jpeg() -> tf.Tensor:
        with tf.control_dependencies([jpeg_shape(encoded)]):
            return tf.io.decode_jpeg(encoded, channels=3)

    image = tf.cond(tf.io.is_jpeg(encoded), decode_jpeg, lambda: decode_other(encoded))
    return tf.ensure_shape(image, [None, None, 3])


def jpeg_shape(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height, width and channels of a JPEG: string scalar -> int32 [3].

    `image_shape` without its branch, which takes longer than the rest.
    """
    return _limited(tf.image.extract_jpeg_shape(encoded))


# Not inlined: tf.data visits every operation of a branch that is not taken, which costs a JPEG 25 us.
_not_inlined = tf.function(
    input_signature=[tf.TensorSpec([], tf.string)], autograph=False, experimental_attributes={"_noinline": True}
)


@_not_inlined
def _shape_of_other(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height, width and 3 channels of a file that is no JPEG."""
    return _limited(tf.concat([_by_format(encoded, [size for size, _ in _FORMATS.values()]), [3]], axis=0))


@_not_inlined
def decode_other(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes an image file that is no JPEG: string scalar -> uint8 [height, width, 3]."""
    with tf.control_dependencies([_shape_of_other(encoded)]):
        return _by_format(tf.identity(encoded), [pixels for _, pixels in _FORMATS.values()])


def _limited(shape: tf.Tensor) -> tf.Tensor:
    """Raises InvalidArgumentError for more than MAX_PIXELS."""
    num_pixels = tf.reduce_prod(tf.cast(shape[:2], tf.int64))
    with tf.control_dependencies([tf.debugging.Assert(num_pixels <= MAX_PIXELS, ["too many pixels", shape])]):
        return tf.identity(shape)


def _by_format(encoded: tf.Tensor, functions: Sequence[Function]) -> tf.Tensor:
    """Applies the function of the file's format. functions: in the order of _FORMATS."""
    start = read_bytes(encoded, 0, 4)
    is_format = tf.stack([read_bytes(start, 0, len(magic)) == magic for magic in _FORMATS])
    with tf.control_dependencies([require(tf.reduce_any(is_format), "neither JPEG, PNG, GIF, BMP nor WebP")]):
        format_index = tf.argmax(is_format, output_type=tf.int32)
    return tf.switch_case(format_index, [functools.partial(function, encoded) for function in functions])
