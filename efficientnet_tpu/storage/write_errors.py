"""Errors of writing a file, as one line for the user: a full disk, a read-only place, no permission."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from efficientnet_tpu.errors import UserError

# Libraries put these errors into texts of their own: TensorFlow behind the path, HDF5 amid numbers.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)

OTHER_FOLDER = "Name another folder"  # a remedy


def error_kinds() -> tuple[type[Exception], ...]:
    """Returns the classes of errors by which writing fails: Python's and, once it is imported, TensorFlow's."""
    tensorflow = sys.modules.get("tensorflow")
    return (OSError, tensorflow.errors.OpError) if tensorflow else (OSError,)


def write_error_reason(error: Exception) -> str:
    """Returns why writing failed, without path and numbers: 'No space left on device'."""
    text = str(getattr(error, "message", None) or getattr(error, "strerror", None) or error)
    named = (os.strerror(number) for number in _OF_THE_DISK)
    return next((reason for reason in named if reason in text), text.partition("\n")[0]).removesuffix(".")


def is_of_the_disk(error: OSError) -> bool:
    """Returns whether the error is one of a place that takes no more, and not of what was asked of it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def cannot_be_written(named: str, error: Exception, remedy: str = "Choose another place") -> UserError:
    """Makes the error for what could not be written. named: what the user typed, with its flag."""
    reason = write_error_reason(error)
    if reason in (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT)):
        remedy = f"Free space, or {remedy[0].lower()}{remedy[1:]}"
    return UserError(f"{named}: cannot be written: {reason}. {remedy}.")


@contextlib.contextmanager
def explained_write_errors(named: str, remedy: str = "Choose another place") -> Iterator[None]:
    """Raises UserError where writing fails in this context, which should do nothing else."""
    try:
        yield
    except error_kinds() as error:
        raise cannot_be_written(named, error, remedy) from error
