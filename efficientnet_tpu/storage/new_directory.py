"""A directory that is written beside its place and renamed at the end: it is whole or not there, local or gs://.

More can be added to it in the same way.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from efficientnet_tpu.storage import directory_lock, durable
from efficientnet_tpu.storage.presence import check_absent
from efficientnet_tpu.storage.write_errors import cannot_be_written, explained_write_errors

_REMEDY = "Choose another directory"
_UNFINISHED, _LOCK = ".unfinished.tmp", ".lock"  # behind the name, while it is being written


def new_directory(path: str, flag: str, activity: str) -> contextlib.AbstractContextManager[str]:
    """Makes a directory beside `path`, the value of `flag`, and gives its path. It is renamed to `path` when the
    context ends without an exception, and is on the disk then; else it is removed. So is what killed processes have
    left beside `path`.

    activity: a word for messages. Raises UserError where the directory, or in this context a file in it, cannot be
    written, and while another process is making it.
    """

    def place(temporary: str) -> None:
        check_absent(path, flag)  # a directory would be put inside it
        tf.io.gfile.rename(temporary, path)

    return _written_beside(path, flag, activity, lambda: check_absent(path, flag), place)


def added_to_directory(
    path: str, flag: str, activity: str, last: Sequence[str]
) -> contextlib.AbstractContextManager[str]:
    """Makes a directory beside `path`, as `new_directory` does, and gives its path. What is in it is moved into `path`
    when the context ends without an exception, in place of what has the same name.

    last: names that are moved at the end, in this order: those by which the others are found.
    """

    def place(temporary: str) -> None:
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(temporary)]
        for name in sorted(names, key=lambda name: last.index(name) if name in last else -1):
            if tf.io.gfile.isdir(f"{path}/{name}"):
                tf.io.gfile.rmtree(f"{path}/{name}")
            tf.io.gfile.rename(f"{temporary}/{name}", f"{path}/{name}", overwrite=True)
        durable.sync_directory(path)

    return _written_beside(path, flag, activity, lambda: None, place)


@contextlib.contextmanager
def _written_beside(
    path: str, flag: str, activity: str, check: Callable[[], None], place: Callable[[str], None]
) -> Iterator[str]:
    """Gives a temporary directory beside `path`, and calls `place` with it at the end.

    check: is called while this process holds the place, before anything is written.
    """
    named, temporary, parent = f"--{flag}={path}", f"{path}{_UNFINISHED}", os.path.dirname(path)
    with explained_write_errors(named, _REMEDY):
        durable.make_directories(parent)  # the lock stands there
        _remove_leftovers(parent)
    with directory_lock.held(path, flag, activity, lock_file=f"{path}{_LOCK}"):
        check()  # another may have made it meanwhile
        with explained_write_errors(named, _REMEDY):
            _remove(temporary)
            tf.io.gfile.makedirs(temporary)
        try:
            yield temporary
            durable.sync_tree(temporary)
            directory_lock.require_ours(path)
            place(temporary)
            durable.sync_directory(parent)
        except (tf.errors.OpError, OSError) as error:
            if temporary in str(error):
                raise cannot_be_written(named, error, _REMEDY) from error
            raise  # it is about something else
        finally:
            with contextlib.suppress(tf.errors.OpError):  # the first error is the one to show
                _remove(temporary)


def _remove_leftovers(parent: str) -> None:
    """Removes what killed processes have left in a local directory: locks that nobody holds, and what they were for."""
    if "://" in parent:
        return
    names = os.listdir(parent or os.curdir)
    for stem in [name.removesuffix(_LOCK) for name in names if name.endswith(_LOCK)]:
        path = os.path.join(parent, stem)
        with directory_lock.taken_from_the_dead(f"{path}{_LOCK}") as is_left:
            if is_left and f"{stem}{_UNFINISHED}" in names:
                print(f"{path}{_UNFINISHED}: left by a process that was killed; removed", flush=True)
                _remove(f"{path}{_UNFINISHED}")


def _remove(directory: str) -> None:
    if tf.io.gfile.exists(directory):
        tf.io.gfile.rmtree(directory)
