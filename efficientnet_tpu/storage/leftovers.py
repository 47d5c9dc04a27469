"""Recognizes what killed processes have left: by their number in its name, and by its lock, which ended with them."""

import contextlib
import fcntl
import os
from collections.abc import Iterator


@contextlib.contextmanager
def marked_in_use(path: str) -> Iterator[None]:
    """Locks a file or directory of this process in this context, so that it is no leftover to other hosts and
    containers either. Where the file system has no locks, its number alone says so.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def is_left(path: str, process: int) -> bool:
    """Returns whether `path`, a file or directory that a process of this number has made, is in nobody's use."""
    if _is_alive(process):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # not waiting for a pipe's writer
    except OSError:  # gone meanwhile, or another user's
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True
