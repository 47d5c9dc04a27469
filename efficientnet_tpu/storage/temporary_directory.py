"""Directories for temporary files."""

import contextlib
import tempfile
from collections.abc import Iterator

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.write_errors import explained_write_errors


def temporary_place() -> str:
    """Returns where temporary files go: TMPDIR, or a usual place. Raises UserError if nothing can be written there."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        places = str(error).partition(" in ")[2]
        raise UserError(
            f"there is no directory for temporary files: none of {places} can be written. Free space, or set TMPDIR to "
            "a directory that can."
        ) from error


@contextlib.contextmanager
def temporary_directory() -> Iterator[str]:
    """Makes a directory that lasts as long as the context. Raises UserError if it cannot be made."""
    place = temporary_place()
    with explained_write_errors(f"TMPDIR={place}", "Set TMPDIR to another directory"):
        directory = tempfile.TemporaryDirectory()
    with directory as path:
        yield path
