"""Small files that are whole or not there, local or gs://. What is written is on the disk."""

import contextlib
import os
import re

from efficientnet_tpu.storage.durable import sync_directory, sync_file
from efficientnet_tpu.storage.leftovers import is_left, marked_in_use


def write_atomically(path: str, text: str | bytes) -> None:
    """Writes a file such that a reader finds the old content or the new, never a part, after a power cut too.

    What killed processes have left of writing the same file is removed. Raises OSError, or for gs:// tf.errors.OpError.
    """
    content = text.encode() if isinstance(text, str) else text
    temporary = f"{path}.{os.getpid()}.tmp"
    if "://" in path:
        _write_object(path, temporary, content)
        return
    try:
        _write_file(path, temporary, content)
    except OSError as error:  # named is what was to be written, not how
        raise OSError(error.errno, os.strerror(error.errno or 0), path) from error
    _remove_leftovers(path)


def _write_file(path: str, temporary: str, content: bytes) -> None:
    try:
        with open(temporary, "wb") as file, marked_in_use(temporary):
            file.write(content)
            file.flush()
            sync_file(temporary)
            os.replace(temporary, path)
        sync_directory(os.path.dirname(path))
    except BaseException:  # a signal too
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def _write_object(path: str, temporary: str, content: bytes) -> None:
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(temporary, "wb") as file:
            file.write(content)
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except BaseException:
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.remove(temporary)
        raise


def _remove_leftovers(path: str) -> None:
    """Removes the temporary files of killed processes that were writing the local file `path`."""
    folder, name = os.path.split(path)
    ours = re.compile(rf"{re.escape(name)}\.(\d+)\.tmp")
    with contextlib.suppress(OSError):  # the next write tries again
        for found in filter(None, map(ours.fullmatch, os.listdir(folder or os.curdir))):
            left = os.path.join(folder, found[0])
            if is_left(left, int(found[1])):
                os.remove(left)
