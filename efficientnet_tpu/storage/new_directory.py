"""A directory that is written beside its place and renamed at the end: it is whole or not there, local or gs://."""

import contextlib
import os
from collections.abc import Iterator

import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage import directory_lock
from efficientnet_tpu.storage.write_errors import cannot_be_written, explained_write_errors

_REMEDY = "Choose another directory"


def check_absent(path: str, flag: str) -> None:
    """Raises UserError if there is a file or a directory at `path`, the value of `flag`."""
    if tf.io.gfile.exists(path):
        raise UserError(f"--{flag}={path}: exists already. Choose a new directory, or remove it first.")


@contextlib.contextmanager
def new_directory(path: str, flag: str, activity: str) -> Iterator[str]:
    """Makes a directory beside `path`, the value of `flag`, and gives its path. It is renamed to `path` when the
    context ends without an exception, else removed; so is one that a killed process has left.

    activity: a word for messages. Raises UserError where the directory, or in this context a file in it, cannot be
    written, and while another process is making it.
    """
    named, temporary = f"--{flag}={path}", f"{path}.unfinished.tmp"
    with explained_write_errors(named, _REMEDY):
        tf.io.gfile.makedirs(os.path.dirname(path) or ".")  # the lock stands there
    with directory_lock.held(path, flag, activity, lock_file=f"{path}.lock"):
        with explained_write_errors(named, _REMEDY):
            _remove(temporary)
            tf.io.gfile.makedirs(temporary)
        try:
            yield temporary
            check_absent(path, flag)  # another may have made it meanwhile, and a directory would be put inside it
            tf.io.gfile.rename(temporary, path)
        except (tf.errors.OpError, OSError) as error:
            if temporary in str(error):
                raise cannot_be_written(named, error, _REMEDY) from error
            raise  # it is about something else
        finally:
            with contextlib.suppress(tf.errors.OpError):  # the first error is the one to show
                _remove(temporary)


def _remove(directory: str) -> None:
    if tf.io.gfile.exists(directory):
        tf.io.gfile.rmtree(directory)
