"""One training at a time in a model_dir: a second one would delete and overwrite the first one's checkpoints.

On a local disk the system's own lock does it, which no dead process holds. Object stores have none: there the holder
counts on in a file, and who comes later looks whether the count goes on. No clock is compared, so none can mislead.
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

LOCK_FILE = "training.lock"
# Seconds between two counts; and how long a count must stand still for its holder to be dead.
BEAT = 20.0
DEAD_AFTER = 60.0


@contextlib.contextmanager
def held(model_dir: str, flag: str = "model_dir") -> Iterator[None]:
    """Makes `model_dir`, the value of `flag`, if need be, and holds it. Raises UserError if another process does, or it
    cannot be written.
    """
    try:
        tf.io.gfile.makedirs(model_dir)
    except (tf.errors.OpError, OSError) as error:
        raise _unwritable(f"--{flag}={model_dir}", getattr(error, "message", str(error))) from error
    named = f"--{flag}={model_dir}"
    with _remote_lock(model_dir, named) if "://" in model_dir else _local_lock(model_dir, named):
        yield


@contextlib.contextmanager
def _local_lock(model_dir: str, named: str) -> Iterator[None]:
    path = os.path.join(model_dir, LOCK_FILE)
    try:
        file = _open_locked(path)
    except BlockingIOError as error:
        raise _in_use(named, _read(path) or "") from error
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
            raise _unwritable(named, error.strerror) from error
        file = None  # a network file system without locks
    if file is None:
        with _remote_lock(model_dir, named):
            yield
        return
    with file:
        file.truncate(0)
        file.write(_description())
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the directory may have vanished
                os.remove(path)


def _open_locked(path: str) -> TextIO:
    """The lock file, held. Raises BlockingIOError when another process holds it."""
    while True:
        # Opened for appending: who does not get the lock must not empty the holder's description.
        file = open(path, "a")  # noqa: SIM115 - closed by the caller
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except OSError:
            file.close()
            raise
        file.close()  # its holder has removed it since


@contextlib.contextmanager
def _remote_lock(model_dir: str, named: str) -> Iterator[None]:
    path = os.path.join(model_dir, LOCK_FILE)
    found = _read(path)
    if found:
        print(f"{path} is there: looking for {DEAD_AFTER:.0f} s whether its training still runs", flush=True)
        deadline = time.monotonic() + DEAD_AFTER
        while time.monotonic() < deadline:
            time.sleep(min(BEAT / 4, DEAD_AFTER))
            now = _read(path)
            if now is None:  # it has ended
                break
            if now != found:
                raise _in_use(named, now)
    ended = threading.Event()
    token = uuid.uuid4().hex

    description = _description()

    def beat() -> None:
        count = 0
        while not ended.wait(BEAT):
            count += 1
            with contextlib.suppress(tf.errors.OpError, OSError):  # the next beat may get through
                write_atomically(path, f"{description} {token} {count}")

    write_atomically(path, f"{description} {token} 0")
    beating = threading.Thread(target=beat, daemon=True, name="model_dir lock")
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        with contextlib.suppress(tf.errors.OpError, OSError):
            tf.io.gfile.remove(path)


def _unwritable(named: str, reason: str | None) -> UserError:
    return UserError(f"{named}: cannot be written: {reason}. Choose another directory.")


def _in_use(named: str, description: str) -> UserError:
    with contextlib.suppress(ValueError, KeyError):
        holder, _ = json.JSONDecoder().raw_decode(description)
        description = f"process {holder['process']} on {holder['host']}, started {holder['started']}"
    return UserError(
        f"{named}: another training is at work there ({description}). Wait for it, stop it, or choose "
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
