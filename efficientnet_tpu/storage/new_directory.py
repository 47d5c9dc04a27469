"""A directory that is written beside its place and renamed at the end: it is whole or not there, local or gs://."""

import contextlib
import os
from collections.abc import Iterator

import tensorflow as tf

from efficientnet_tpu.errors import UserError


def check_absent(path: str, flag: str) -> None:
    """Raises UserError if there is a file or a directory at `path`, the value of `flag`."""
    if tf.io.gfile.exists(path):
        raise UserError(f"--{flag}={path}: exists already. Choose a new directory, or remove it first.")


@contextlib.contextmanager
def new_directory(path: str, flag: str) -> Iterator[str]:
    """Makes a directory beside `path`, the value of `flag`, and gives its path. It is renamed to `path` when the
    context ends without an exception, else removed. Raises UserError if it cannot be made.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        tf.io.gfile.makedirs(temporary)
    except tf.errors.OpError as error:
        raise UserError(f"--{flag}={path}: cannot be written: {error.message}. Choose another directory.") from error
    try:
        yield temporary
        tf.io.gfile.rename(temporary, path)
    finally:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.rmtree(temporary)
