"""Files and names that are on the disk: a power cut takes nothing of them.

What a program writes stays in memory for up to half a minute. Contents and names reach the disk at different times, so
that a file may be there with nothing in it. Object stores keep what they have acknowledged: for gs:// nothing is done.
"""

import errno
import os

# Of file systems that cannot flush a directory, or anything, and of directories that may be written but not read.
_NOT_OFFERED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES)


def sync_file(path: str) -> None:
    """Returns when the content of a file is on the disk; the name is its directory's. Raises OSError if it cannot be
    written there.
    """
    if "://" in path:
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise OSError(error.errno, os.strerror(error.errno or 0), path) from error


def sync_directory(path: str) -> None:
    """Returns when the names in a directory are on the disk. Raises OSError if they cannot be written there."""
    sync_file(path or os.curdir)


def sync_tree(directory: str) -> None:
    """Returns when a directory is on the disk with everything in it; its own name is its parent's."""
    if "://" in directory:
        return
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                sync_file(path)
        sync_directory(folder)


def make_directories(path: str) -> None:
    """Makes a directory, local or gs://, and those above it. Returns when their names are on the disk."""
    if "://" in path:
        import tensorflow as tf

        tf.io.gfile.makedirs(path)
        return
    missing, above = [], os.path.abspath(path)
    while not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    os.makedirs(path or os.curdir, exist_ok=True)
    for directory in reversed(missing):
        sync_directory(os.path.dirname(directory))
