"""EXIF orientation inside TensorFlow's graphs: how a file says that its picture is to be turned, and the turning.

Orientations are EXIF's: 1 upright, 2 mirrored, 3 upside down, 4 mirrored upside down, 5 to 8 the same four of a picture
that lies on its side. What is damaged is upright. `image_header` reads the same numbers without TensorFlow.
"""

import functools

import tensorflow as tf

from efficientnet_tpu.data.decoding.file_bytes import contains, not_inlined, of_file, read_bytes

ORIENTATION = 0x0112  # the tag
_SHORT, _LONG = 3, 4  # types of a number: 16 and 32 bits
_ENTRY_BYTES = 12
_JPEG_MARK = b"Exif\0\0"
# Far more segments, and bytes of padding between them, than files have. Without a limit, a crafted file would keep a
# core busy for minutes.
_MOST_STEPS = 5000

# The head of an upright picture as cameras and phones write it: EXIF is the first segment, or the second behind JFIF's,
# its directory comes first in it, and among the directory's entries of 12 bytes is one of the orientation, 1. \C is any
# byte.
_UPRIGHT = (
    r"(?s)\C{6}(?:\C{18})?Exif\x00\x00(?:"
    r"II\x2a\x00\x08\x00\x00\x00\C{2}(?:\C{12})*?\x12\x01\x03\x00\x01\x00\x00\x00\x01\x00\C*|"
    r"MM\x00\x2a\x00\x00\x00\x08\C{2}(?:\C{12})*?\x01\x12\x00\x03\x00\x00\x00\x01\x00\x01\C*)"
)
_HEAD_BYTES = 512

# ---- Where it is


def has_exif(encoded: tf.Tensor) -> tf.Tensor:
    """Returns whether a JPEG has EXIF data, or what looks like them: string scalar -> bool scalar. Takes 5 us."""
    return contains(encoded, r"Exif\x00\x00")


def is_usual_upright(encoded: tf.Tensor) -> tf.Tensor:
    """Returns whether a JPEG has the usual EXIF data of an upright picture: string scalar -> bool scalar.

    Takes some 10 us, `jpeg_orientation` 200.
    """
    return tf.strings.regex_full_match(read_bytes(encoded, 0, _HEAD_BYTES), _UPRIGHT)


@of_file
def jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the orientation from the first EXIF segment before the scan: string scalar -> int32 scalar, 1..8."""

    def segment_end(position: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
        return position + 2 + tf.maximum(256 * head[2] + head[3], 2)

    def is_exif(position: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
        return (head[1] == 0xE1) & (read_bytes(encoded, position + 4, len(_JPEG_MARK)) == _JPEG_MARK)

    def goes_on(position: tf.Tensor) -> tf.Tensor:
        head = _numbers(encoded, position, 4)
        return (head[0] == 0xFF) & (head[1] != 0xDA) & ~is_exif(position, head)

    def next_segment(position: tf.Tensor) -> list[tf.Tensor]:
        head = _numbers(encoded, position, 4)
        is_padding = head[1] == 0xFF
        return [tf.where(is_padding, position + 1, segment_end(position, head))]

    (position,) = tf.while_loop(goes_on, next_segment, [tf.constant(2)], maximum_iterations=_MOST_STEPS)
    head = _numbers(encoded, position, 4)
    begin = position + 4 + len(_JPEG_MARK)
    exif = read_bytes(encoded, begin, tf.maximum(segment_end(position, head) - begin, 0))
    return tf.cond((head[0] == 0xFF) & is_exif(position, head), lambda: _orientation(exif), lambda: tf.constant(1))


@of_file
def png_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the orientation from the chunk eXIf, before or behind the pixels: string scalar -> int32 scalar, 1..8."""
    return _of_chunk(encoded, contains(encoded, "eXIf"), 8, b"eXIf", kind_at=4, length_at=0, little_endian=False)


@of_file
def webp_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the orientation from the chunk EXIF of an extended file: string scalar -> int32 scalar, 1..8."""
    flags = _numbers(encoded, 20, 1)[0]
    has_exif = (read_bytes(encoded, 12, 4) == b"VP8X") & (flags // 8 % 2 == 1)
    return _of_chunk(encoded, has_exif, 12, b"EXIF", kind_at=0, length_at=4, little_endian=True)


def _of_chunk(
    encoded: tf.Tensor, has_exif: tf.Tensor, begin: int, kind: bytes, kind_at: int, length_at: int, little_endian: bool
) -> tf.Tensor:
    """Reads the orientation from the first chunk of a kind: int32 scalar, 1..8.

    begin: where the first chunk is. kind_at, length_at: of a chunk's name and length, from its begin. A PNG's chunk
    ends with 4 bytes more; a WebP's has an even length.
    """

    def length(position: tf.Tensor) -> tf.Tensor:
        four = tf.cast(_numbers(encoded, position + length_at, 4), tf.int64)
        weights = [1, 2**8, 2**16, 2**24]
        # Turned here: a strided slice of four numbers makes TensorFlow's layout optimizer print an error.
        whole = tf.reduce_sum(four * tf.constant(weights if little_endian else weights[::-1], tf.int64))
        # A length behind the file's end, which could overflow, leads to the end.
        return tf.cast(tf.minimum(whole, tf.cast(tf.strings.length(encoded), tf.int64)), tf.int32)

    def is_there(position: tf.Tensor) -> tf.Tensor:
        return read_bytes(encoded, position + kind_at, len(kind)) == kind

    def goes_on(position: tf.Tensor) -> tf.Tensor:
        return (position < tf.strings.length(encoded)) & ~is_there(position)

    def next_chunk(position: tf.Tensor) -> list[tf.Tensor]:
        content = length(position)
        return [position + 8 + (content + content % 2 if little_endian else content + 4)]

    def find() -> tf.Tensor:
        (position,) = tf.while_loop(goes_on, next_chunk, [tf.constant(begin)], maximum_iterations=100 * _MOST_STEPS)
        exif = read_bytes(encoded, position + 8, length(position))
        # Some programs write a JPEG's mark before the data.
        exif = tf.where(read_bytes(exif, 0, 6) == _JPEG_MARK, read_bytes(exif, 6, tf.strings.length(exif)), exif)
        return tf.cond(is_there(position), lambda: _orientation(exif), lambda: tf.constant(1))

    return tf.cond(has_exif, find, lambda: tf.constant(1))


def _numbers(encoded: tf.Tensor, position: int | tf.Tensor, count: int) -> tf.Tensor:
    """Returns bytes as numbers, zeros behind the end of the file: int32 [count]."""
    piece = tf.io.decode_raw(read_bytes(encoded, position, count), tf.uint8, fixed_length=max(count, 1))
    return tf.cast(piece, tf.int32)


@of_file
def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """Reads the orientation from the first directory of a TIFF structure: string scalar -> int32 scalar, 1..8."""
    order = read_bytes(exif, 0, 2)
    is_big = order == b"MM"

    def combined(parts: tf.Tensor, base: int) -> tf.Tensor:
        """Makes numbers of pairs of their halves, in the structure's order: int64 [count, 2] -> int64 [count]."""
        weights = tf.where(is_big, tf.constant([base, 1], tf.int64), tf.constant([1, base], tf.int64))
        return tf.reduce_sum(parts * weights, axis=1)

    def shorts(position: int | tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
        """Returns whole numbers of 16 bits, fewer where the data end: int64 [numbers]."""
        octets = tf.cast(tf.io.decode_raw(read_bytes(exif, position, 2 * count), tf.uint8), tf.int64)
        return combined(tf.reshape(octets[: tf.size(octets) // 2 * 2], [-1, 2]), 2**8)

    def first(numbers: tf.Tensor, otherwise: int) -> tf.Tensor:
        return tf.concat([numbers, [tf.constant(otherwise, tf.int64)]], axis=0)[0]

    offset = tf.concat([shorts(4, 2), tf.zeros([2], tf.int64)], axis=0)[:2]
    directory = tf.minimum(combined(offset[tf.newaxis], 2**16)[0], tf.cast(tf.strings.length(exif), tf.int64))
    directory = tf.cast(directory, tf.int32)
    num_entries = tf.cast(first(shorts(directory, 1), 0), tf.int32)
    numbers = shorts(directory + 2, _ENTRY_BYTES // 2 * num_entries)
    entries = tf.reshape(numbers[: tf.size(numbers) // 6 * 6], [-1, 6])  # tag, type, two of the count, two of the value
    kinds, short, long = entries[:, 1], entries[:, 4], combined(entries[:, 4:], 2**16)
    values = tf.where(kinds == _SHORT, short, tf.where(kinds == _LONG, long, 1))
    value = first(tf.boolean_mask(values, entries[:, 0] == ORIENTATION), 1)
    is_known = ((order == b"II") | is_big) & (value >= 1) & (value <= 8)
    return tf.where(is_known, tf.cast(value, tf.int32), 1)


# ---- The turning


def _swaps_sides(orientation: tf.Tensor) -> tf.Tensor:
    return orientation >= 5


def _is_one_of(orientation: tf.Tensor, *orientations: int) -> tf.Tensor:
    return tf.reduce_any(orientation == tf.constant(orientations))


@functools.partial(not_inlined, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([], tf.int32)])
def turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a picture upright: uint8 [height, width, 3] as stored -> uint8 [height, width, 3] or, on its side, [width,
    height, 3]. orientation: int32 scalar, 1..8.
    """

    def turned() -> tf.Tensor:
        # One gathering instead of a transposition and two mirrorings, which take longer. For 8 bits, TensorFlow's own
        # transposition also prints an error on processors without AVX-512.
        height, width = tf.unstack(turned_shape(tf.shape(image), orientation)[:2])
        rows, columns = tf.range(height), tf.range(width)
        rows = tf.where(_is_one_of(orientation, 3, 4, 7, 8), height - 1 - rows, rows)[:, tf.newaxis]
        columns = tf.where(_is_one_of(orientation, 2, 3, 6, 7), width - 1 - columns, columns)
        places = tf.where(_swaps_sides(orientation), rows + height * columns, width * rows + columns)
        return tf.gather(tf.reshape(image, [-1, 3]), places)

    return tf.cond(orientation == 1, lambda: image, turned)


def turned_shape(shape: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Returns the shape of the upright picture: int32 [3] as stored -> int32 [3]. orientation: int32 scalar, 1..8."""
    return tf.where(_swaps_sides(orientation), tf.gather(shape, [1, 0, 2]), shape)


def stored_window(window: tf.Tensor, shape: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Returns where a window of the upright picture lies in the stored one: int32 [4] -> int32 [4].

    A window is top, left, height and width. shape: of the upright picture, int32 [3]. orientation: int32 scalar, 1..8.
    """
    top, left, height, width = tf.unstack(window)
    top = tf.where(_is_one_of(orientation, 3, 4, 7, 8), shape[0] - top - height, top)
    left = tf.where(_is_one_of(orientation, 2, 3, 6, 7), shape[1] - left - width, left)
    upright = tf.stack([top, left, height, width])
    return tf.where(_swaps_sides(orientation), tf.gather(upright, [1, 0, 3, 2]), upright)
