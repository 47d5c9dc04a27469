"""What is there at a path: local paths are looked at without TensorFlow, which takes seconds to start."""

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
