"""Tells what is there at a path. TensorFlow, which takes seconds to start, is asked only about remote paths."""

import os
from typing import Any

from efficientnet_tpu.errors import UserError


def exists(path: str, named: str) -> bool:
    """Returns whether there is a file or a folder. named: what the user typed, with its flag.

    Raises UserError for a gs:// path that cannot be reached.
    """
    return os.path.exists(path) if is_local(path) else _remotely("exists", path, named)


def is_folder(path: str, named: str) -> bool:
    """Returns whether there is a folder. Raises UserError as `exists` does."""
    return os.path.isdir(path) if is_local(path) else _remotely("isdir", path, named)


def names_in(folder: str, named: str) -> list[str]:
    """Returns the names in a folder, none where there is no folder. Raises UserError as `exists` does."""
    if not is_folder(folder, named):
        return []
    return os.listdir(folder) if is_local(folder) else _remotely("listdir", folder, named)


def check_absent(path: str, flag: str) -> None:
    """Raises UserError if there is a file or a directory at `path`, the value of `flag`."""
    if exists(path, f"--{flag}={path}"):
        raise UserError(f"--{flag}={path}: exists already. Choose a new directory, or remove it first.")


def require_folder(path: str, flag: str) -> None:
    """Raises UserError where a local file `path`, the value of `flag`, has no folder to be in."""
    folder = os.path.dirname(path)
    if is_local(path) and folder and not os.path.isdir(folder):
        raise UserError(f"--{flag}={path}: there is no folder {folder}. Make it, or name another.")


def check_empty(path: str, flag: str) -> None:
    """Raises UserError if there is a file, or a folder with something in it, at `path`, the value of `flag`."""
    named = f"--{flag}={path}"
    if names_in(path, named):
        raise UserError(f"{named}: is not empty. Choose a new directory, or empty this one.")
    if exists(path, named) and not is_folder(path, named):
        raise UserError(f"{named}: is a file. Choose a new directory.")


def is_local(path: str) -> bool:
    """Returns whether the operating system can open a path: one without a scheme such as gs://."""
    return "://" not in path


def _remotely(question: str, path: str, named: str) -> Any:
    """Returns what TensorFlow's file system of the path's scheme answers."""
    from efficientnet_tpu.hardware import tensorflow_startup

    tensorflow_startup.import_tensorflow()
    import tensorflow as tf

    try:
        return getattr(tf.io.gfile, question)(path)
    except tf.errors.OpError as error:  # no network, no credentials, no permission
        raise UserError(f"{named}: cannot be reached: {error.message.partition(chr(10))[0]}.") from error
