"""Bytes and numbers of a file inside TensorFlow's graphs."""

import functools

import tensorflow as tf

# A function of a file, which graphs call. Not inlined: tf.data visits every operation of a branch that is not taken
# (those for other formats cost a JPEG 25 us), and a graph holds one copy however often it is called.
not_inlined = functools.partial(tf.function, autograph=False, experimental_attributes={"_noinline": True})
of_file = functools.partial(not_inlined, input_signature=[tf.TensorSpec([], tf.string)])


def require(holds: tf.Tensor, otherwise: str) -> tf.Operation | None:
    """Raises InvalidArgumentError with the message `otherwise` unless `holds`, a bool scalar, is true."""
    return tf.debugging.Assert(holds, [otherwise])


def read_bytes(encoded: tf.Tensor, position: int | tf.Tensor, num_bytes: int | tf.Tensor) -> tf.Tensor:
    """Returns bytes of a file, fewer where it ends. encoded, the result: string scalars.

    A position behind the end would raise an error that quotes the file, which Python cannot decode.
    """
    return tf.strings.substr(encoded, tf.minimum(position, tf.strings.length(encoded)), num_bytes)


def read_ints(encoded: tf.Tensor, position: int, kind: tf.DType, count: int, little_endian: bool = True) -> tf.Tensor:
    """Reads numbers of a file, a string scalar, from `position` on: int32 [count].

    Raises InvalidArgumentError if the file ends before.
    """
    piece = read_bytes(encoded, position, count * kind.size)
    return tf.ensure_shape(tf.cast(tf.io.decode_raw(piece, kind, little_endian), tf.int32), [count])


def contains(encoded: tf.Tensor, pattern: str) -> tf.Tensor:
    """Returns whether a pattern, ASCII letters and escapes, occurs in a file: string scalar -> bool scalar.

    Takes 5 us for 100 kB: a replacement leaps from letter to letter, where a match would look at every byte.
    """
    without = tf.strings.regex_replace(encoded, pattern, "", replace_global=False)
    return tf.strings.length(without) < tf.strings.length(encoded)


def replaced(encoded: tf.Tensor, position: tf.Tensor, piece: bytes) -> tf.Tensor:
    """Returns a file with `piece` in place of as many bytes. encoded, the result: string scalars."""
    behind = position + len(piece)
    return read_bytes(encoded, 0, position) + piece + read_bytes(encoded, behind, tf.strings.length(encoded))
