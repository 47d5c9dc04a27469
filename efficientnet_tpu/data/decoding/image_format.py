"""Image files inside TensorFlow's graphs: their size from the header, and their pixels.

The size is checked before anything is decoded, so that a file which claims 60000 x 60000 pixels costs no memory.
TensorFlow reads JPEG and opaque PNG well. The modules `gif`, `bmp` and `webp` work around faults of its other decoders,
`exif` turns what lies on its side, `background` lays transparent pictures on a color.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from efficientnet_tpu.config.color import Color, read_color
from efficientnet_tpu.data.decoding import bmp, exif, gif, jpeg, png, webp
from efficientnet_tpu.data.decoding.file_bytes import not_inlined, of_file, read_bytes, require
from efficientnet_tpu.data.decoding.reduction import cut_window, decode_jpeg_window

# Pillow's limit, and TensorFlow's for a JPEG: 512 MiB of RGB.
MAX_PIXELS = 178_956_970

Function = Callable[[tf.Tensor], tf.Tensor]
Window = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Reading:
    """The treatment of a file's peculiarities.

    exif_orientation: whether pictures are turned as their EXIF data say. The reference does not.
    background: the color that transparent pictures are laid on. "none": opacities are dropped, which uncovers whatever
    colors are stored below them, and the transparent pixels of a GIF are black.
    """

    exif_orientation: bool = True
    background: str = "white"


AS_USUAL = Reading()
# Enough to find out whether a file can be decoded, and quicker.
AS_STORED = Reading(exif_orientation=False, background="none")


@dataclass(frozen=True)
class _Format:
    """A file format but JPEG, which goes another way: decoding a window of it is cheaper.

    size: string scalar -> height and width, int32 [2]. decode: (string scalar, background) -> uint8 [height, width, 3].
    orientation: string scalar -> int32 scalar, EXIF's.
    """

    size: Function
    decode: Callable[[tf.Tensor, Color | None], tf.Tensor]
    orientation: Function = lambda encoded: tf.constant(1)


_FORMATS = {  # by the first bytes of a file
    b"\x89PNG": _Format(png.read_size, png.decode, exif.png_orientation),
    b"GIF8": _Format(gif.read_size, gif.decode),
    b"BM": _Format(bmp.read_size, bmp.decode),
    b"RIFF": _Format(webp.read_size, webp.decode, exif.webp_orientation),
}


def image_shape(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height, width and channels from the header of an image file: string scalar -> int32 [3].

    Of the picture as it is stored, before it is turned. The channels are the file's for a JPEG, else 3. Raises
    InvalidArgumentError unless the file is a JPEG, PNG, GIF, BMP or WebP of at most MAX_PIXELS, and for a JPEG of too
    many scans. The data behind the
    header may still be damaged.
    """
    return tf.cond(tf.io.is_jpeg(encoded), lambda: jpeg_shape(encoded), lambda: _shape_of_other(encoded))


def orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Reads how an image file says that its picture is turned: string scalar -> int32 scalar, 1..8 (see `exif`)."""
    return tf.cond(tf.io.is_jpeg(encoded), lambda: exif.jpeg_orientation(encoded), lambda: _orientation(encoded))


def decode(encoded: tf.Tensor, reading: Reading = AS_USUAL) -> tf.Tensor:
    """Decodes an image file, of an animation the first frame: string scalar -> uint8 [height, width, 3].

    Raises InvalidArgumentError for a file that cannot be decoded. If `image_shape` refuses it, no memory is allocated
    for pixels.
    """

    def decode_jpeg() -> tf.Tensor:
        with tf.control_dependencies([jpeg_shape(encoded)]):
            return tf.io.decode_jpeg(encoded, channels=3)

    def decode_turned() -> tf.Tensor:
        return exif.turn(decode_jpeg(), exif.jpeg_orientation(encoded))

    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: _turned_or_not(encoded, reading, decode_turned, decode_jpeg),
        lambda: decode_other(encoded, reading),
    )
    return tf.ensure_shape(image, [None, None, 3])


def decode_window(
    encoded: tf.Tensor, choose_window: Window, reading: Reading = AS_USUAL, least_side: int | tf.Tensor | None = None
) -> tf.Tensor:
    """Decodes a part of an image file: string scalar -> uint8 [height, width, 3]. The rest of a JPEG is not decoded.

    choose_window: (shape int32 [3]) -> int32 [4]: top, left, height, width; of the picture as it is seen, upright.
    least_side: a part with sides of twice that or more is reduced, see `reduction`; None: none is.
    """

    def jpeg_window() -> tf.Tensor:
        return decode_jpeg_window(encoded, choose_window(jpeg_shape(encoded)), least_side)

    def turned_window() -> tf.Tensor:
        orientation = exif.jpeg_orientation(encoded)
        shape = exif.turned_shape(jpeg_shape(encoded), orientation)
        window = exif.stored_window(choose_window(shape), shape, orientation)
        return exif.turn(decode_jpeg_window(encoded, window, least_side), orientation)

    def other_window() -> tf.Tensor:
        image = decode_other(encoded, reading)
        return cut_window(image, choose_window(tf.shape(image)), least_side)

    image = tf.cond(
        tf.io.is_jpeg(encoded), lambda: _turned_or_not(encoded, reading, turned_window, jpeg_window), other_window
    )
    return tf.ensure_shape(image, [None, None, 3])


def _turned_or_not(
    encoded: tf.Tensor, reading: Reading, turned: Callable[[], tf.Tensor], plain: Callable[[], tf.Tensor]
) -> tf.Tensor:
    """Decodes a JPEG, by `turned` where it has EXIF data that are to be obeyed: uint8 [height, width, 3]."""
    if not reading.exif_orientation:
        return plain()
    read = not_inlined(lambda: tf.cond(exif.is_usual_upright(encoded), plain, turned))
    return tf.cond(exif.has_exif(encoded), read, plain)


def jpeg_shape(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height, width and channels of a JPEG: string scalar -> int32 [3].

    `image_shape` without its branch, which takes longer than the rest.
    """
    return _limited(tf.image.extract_jpeg_shape(encoded), functools.partial(jpeg.require_few_scans, encoded))


@of_file
def _shape_of_other(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height, width and 3 channels of a file that is no JPEG."""
    size = _by_format(encoded, [format.size for format in _FORMATS.values()])
    return _limited(tf.concat([size, [3]], axis=0))


def decode_other(encoded: tf.Tensor, reading: Reading = AS_USUAL) -> tf.Tensor:
    """Decodes an image file that is no JPEG: string scalar -> uint8 [height, width, 3]."""
    return _other_decoder(reading)(encoded)


@functools.cache
def _other_decoder(reading: Reading) -> Function:
    background = read_color(reading.background)

    def decode(encoded: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([_shape_of_other(encoded)]):
            encoded = tf.identity(encoded)
        decoders = [functools.partial(format.decode, background=background) for format in _FORMATS.values()]
        image = _by_format(encoded, decoders)
        if not reading.exif_orientation:
            return image
        return exif.turn(image, _orientation(encoded))

    return of_file(decode)


def _orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the orientation of a file that is no JPEG: string scalar -> int32 scalar, 1..8."""
    return _by_format(encoded, [format.orientation for format in _FORMATS.values()])


def _limited(shape: tf.Tensor, require_quick: Function = tf.identity) -> tf.Tensor:
    """Raises InvalidArgumentError for more than MAX_PIXELS. require_quick: takes and returns their number, an int64
    scalar, and raises for other reasons.
    """
    num_pixels = require_quick(tf.reduce_prod(tf.cast(shape[:2], tf.int64)))
    with tf.control_dependencies([tf.debugging.Assert(num_pixels <= MAX_PIXELS, ["too many pixels", shape])]):
        return tf.identity(shape)


def _by_format(encoded: tf.Tensor, functions: Sequence[Function]) -> tf.Tensor:
    """Applies the function of the file's format. functions: in the order of _FORMATS."""
    start = read_bytes(encoded, 0, 4)
    is_format = tf.stack([read_bytes(start, 0, len(magic)) == magic for magic in _FORMATS])
    with tf.control_dependencies([require(tf.reduce_any(is_format), "neither JPEG, PNG, GIF, BMP nor WebP")]):
        format_index = tf.argmax(is_format, output_type=tf.int32)
    return tf.switch_case(format_index, [functools.partial(function, encoded) for function in functions])
