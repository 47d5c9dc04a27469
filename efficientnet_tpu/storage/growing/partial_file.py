"""Files that grow for hours: until one is whole, it is called FILE.partial, where what is written shows as it comes.

A killed program leaves FILE.partial and no FILE; the next begins it anew. A gs:// file appears when it is whole.
"""

import contextlib
import fcntl
import io
import os
from collections.abc import Iterator

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.durable import sync_directory, sync_file
from efficientnet_tpu.storage.temporary_directory import temporary_directory
from efficientnet_tpu.storage.write_errors import explained_write_errors


def partial_path(path: str) -> str:
    """Returns where a local file is until it is whole."""
    return f"{path}.partial"


@contextlib.contextmanager
def partial_file(path: str, flag: str) -> Iterator[io.FileIO]:
    """Opens the file for writing. When the context ends without an error it is on the disk, under its own name.

    flag: by which `path` was named, for the UserError where it cannot be written, or another process is writing it.
    What holds nothing at an error is removed.
    """
    named = f"--{flag}={path}"
    with contextlib.ExitStack() as stack:
        remote = "://" in path
        local = f"{stack.enter_context(temporary_directory())}/file" if remote else partial_path(path)
        with explained_write_errors(named):
            file = stack.enter_context(_ExplainedFile(local, named))
        _lock(file, named)
        if os.fstat(file.fileno()).st_size:  # left by a killed program
            file.truncate(0)
        try:
            yield file
        except BaseException:
            with contextlib.suppress(OSError):
                if os.path.getsize(local) == 0:
                    os.remove(local)
            raise
        with explained_write_errors(named):
            sync_file(local)
            if remote:
                _copy(local, path)
            else:
                os.replace(local, path)
                sync_directory(os.path.dirname(path))


class _ExplainedFile(io.FileIO):
    """A file that is not emptied when it is opened, and whose errors of writing are one line for the user."""

    def __init__(self, path: str, named: str) -> None:
        super().__init__(path, "wb", opener=lambda name, flags: os.open(name, flags & ~os.O_TRUNC, 0o666))
        self._named = named

    def write(self, content: bytes) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Writes all of the content, as a file without a buffer may not; returns its length in bytes."""
        rest = memoryview(content).cast("B")
        with explained_write_errors(self._named):
            while rest:
                rest = rest[super().write(rest) :]
        return len(content)


def _lock(file: io.FileIO, named: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"{named}: another process is writing it. Name another file, or wait.") from error
    except OSError:  # the file system has no locks
        pass


def _copy(local: str, remote: str) -> None:
    import tensorflow as tf

    tf.io.gfile.copy(local, remote, overwrite=True)
