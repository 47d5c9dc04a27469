"""Small files that are whole or not there, local or gs://."""

import contextlib
import os

import tensorflow as tf


def write_atomically(path: str, text: str | bytes) -> None:
    """Writes a file such that a reader finds the old content or the new, never a part. Raises tf.errors.OpError or
    OSError.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with tf.io.gfile.GFile(temporary, "w") as file:
            file.write(text)
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except BaseException:  # a signal too
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.remove(temporary)
        raise
