"""Bytes and numbers of a file inside TensorFlow's graphs."""

import tensorflow as tf


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
