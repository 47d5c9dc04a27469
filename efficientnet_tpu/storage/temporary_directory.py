"""Directories for temporary files."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.leftovers import is_left, marked_in_use
from efficientnet_tpu.storage.write_errors import explained_write_errors

_NAME = re.compile(r"efficientnet_tpu-(\d+)-\w+")  # the number is the process'


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


def users_temporary_place() -> str:
    """Returns the place that messages name: what the user can set. It holds this process' own directory."""
    place = temporary_place()
    while _NAME.fullmatch(os.path.basename(place)):
        place = os.path.dirname(place)
    return place


def temporary_prefix() -> str:
    """Returns how the names of this process' temporary directories begin: what is left of them is recognized by it."""
    return f"efficientnet_tpu-{os.getpid()}-"


@contextlib.contextmanager
def temporary_directory() -> Iterator[str]:
    """Makes a directory that lasts as long as the context, and removes those that killed processes have left.

    Libraries put their own temporary files into it too. Raises UserError if it cannot be made.
    """
    place, before = temporary_place(), tempfile.tempdir
    with explained_write_errors(f"TMPDIR={users_temporary_place()}", "Set TMPDIR to another directory"):
        _remove_leftovers(place)
        directory = tempfile.TemporaryDirectory(prefix=temporary_prefix(), dir=place)
    with directory as path, marked_in_use(path):
        tempfile.tempdir = path
        try:
            yield path
        finally:
            tempfile.tempdir = before


@contextlib.contextmanager
def own_temporary_files() -> Iterator[None]:
    """Puts the temporary files of libraries, AutoGraph's among them, into a directory of this process, which is removed
    with it or, where it was killed, by the next. Does nothing where there is no place for one.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(UserError):
            stack.enter_context(temporary_directory())
        yield


def _remove_leftovers(place: str) -> None:
    for found in filter(None, map(_NAME.fullmatch, os.listdir(place))):
        left = os.path.join(place, found[0])
        if is_left(left, int(found[1])):
            shutil.rmtree(left, ignore_errors=True)
