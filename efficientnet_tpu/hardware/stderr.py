"""Standard error at the file descriptor, to which C++ libraries write past Python."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def redirected_stderr(file: IO[bytes]) -> Iterator[None]:
    """Sends what the process writes to stderr in this context to `file`, an open file with a descriptor."""
    sys.stderr.flush()
    stderr = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)


def silence_stderr() -> None:
    """Drops what the process writes to stderr from here to its end."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
