"""Small files that are whole or not there, local or gs://."""

import contextlib
import os

import tensorflow as tf


def write_atomically(path: str, text: str | bytes) -> None:
    """A reader sees the old file or the new one, never half of it. Raises tf.errors.OpError or OSError."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with tf.io.gfile.GFile(temporary, "w") as file:
            file.write(text)
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except (tf.errors.OpError, OSError):
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.remove(temporary)
        raise
