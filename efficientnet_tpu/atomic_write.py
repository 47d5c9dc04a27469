"""Small files that are whole or not there, local or gs://."""

import os

import tensorflow as tf


def write_atomically(path: str, text: str | bytes) -> None:
    """A reader sees the old file or the new one, never half of it."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with tf.io.gfile.GFile(temporary, "w") as file:
        file.write(text)
    tf.io.gfile.rename(temporary, path, overwrite=True)
