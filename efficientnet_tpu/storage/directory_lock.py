"""A lock on a directory, local or gs://: one training in a model_dir, one conversion to an output_dir.

A second training would delete and overwrite the checkpoints of the first. On a local disk the lock is the operating
system's, which releases it when the process dies. Object stores have no locks. There the holder counts in a file, and
a later process waits to see whether the count changes. No clocks are compared, so a wrong clock does no harm.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import TextIO

import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.write_errors import cannot_be_written, explained_write_errors
from efficientnet_tpu.texts.printable import shown

LOCK_FILE = "training.lock"
# Seconds between two counts, and how long a count must not change before its holder is taken for dead.
BEAT = 20.0
DEAD_AFTER = 60.0
_REMEDY = "Choose another directory"


@contextlib.contextmanager
def held(directory: str, flag: str = "model_dir", activity: str = "training", lock_file: str = "") -> Iterator[None]:
    """Holds `directory`, the value of `flag`, in this context. Raises UserError if another process holds it, or if the
    lock file cannot be written.

    activity: a word for messages. lock_file: a path beside `directory`, for a directory that must not exist yet; by
    default the directory is made, and the lock file is in it.
    """
    path = lock_file or os.path.join(directory, LOCK_FILE)
    named = f"--{flag}={directory}"
    if not lock_file:
        with explained_write_errors(named, _REMEDY):
            tf.io.gfile.makedirs(directory)
    with _remote_lock(path, named, activity) if "://" in path else _local_lock(path, named, activity):
        yield


@contextlib.contextmanager
def _local_lock(path: str, named: str, activity: str) -> Iterator[None]:
    try:
        file = _open_locked(path)
    except BlockingIOError as error:
        raise _in_use(named, activity, _read(path) or "") from error
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
            raise cannot_be_written(named, error, _REMEDY) from error
        file = None  # a network file system without locks
    if file is None:
        with _remote_lock(path, named, activity):
            yield
        return
    with file:
        try:
            with explained_write_errors(named, _REMEDY):
                file.truncate(0)
                os.write(file.fileno(), _description().encode())
            yield
        finally:
            with contextlib.suppress(OSError):  # the directory may have been removed
                os.remove(path)


def _open_locked(path: str) -> TextIO:
    """Opens the lock file and locks it. Raises BlockingIOError when another process holds it."""
    while True:
        # Append mode: a process that does not get the lock must not erase the holder's description.
        file = open(path, "a")  # noqa: SIM115 - closed by the caller
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except OSError:
            file.close()
            raise
        file.close()  # the holder removed the file after it was opened here


@contextlib.contextmanager
def _remote_lock(path: str, named: str, activity: str) -> Iterator[None]:
    found = _read(path)
    if found:
        print(f"{path} is there: looking for {DEAD_AFTER:.0f} s whether its {activity} still runs", flush=True)
        deadline = time.monotonic() + DEAD_AFTER
        while time.monotonic() < deadline:
            time.sleep(min(BEAT / 4, DEAD_AFTER))
            now = _read(path)
            if now is None:  # its holder has ended
                break
            if now != found:
                raise _in_use(named, activity, now)
    ended = threading.Event()
    token = uuid.uuid4().hex
    description = _description()

    def beat() -> None:
        count = 0
        while not ended.wait(BEAT):
            count += 1
            with contextlib.suppress(tf.errors.OpError, OSError):  # the next beat may get through
                write_atomically(path, f"{description} {token} {count}")

    with explained_write_errors(named, _REMEDY):
        write_atomically(path, f"{description} {token} 0")
    beating = threading.Thread(target=beat, daemon=True, name="directory lock")
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        with contextlib.suppress(tf.errors.OpError, OSError):
            tf.io.gfile.remove(path)


def _in_use(named: str, activity: str, description: str) -> UserError:
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        holder, _ = json.JSONDecoder().raw_decode(description)
        description = f"process {holder['process']} on {holder['host']}, started {holder['started']}"
    return UserError(
        f"{named}: another {activity} is at work there ({shown(description)}). Wait for it, stop it, or choose "
        "another directory."
    )


def _description() -> str:
    started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return json.dumps({"host": socket.gethostname(), "process": os.getpid(), "started": started})


def _read(path: str) -> str | None:
    try:
        with tf.io.gfile.GFile(path) as file:
            return file.read()
    except tf.errors.NotFoundError:
        return None
