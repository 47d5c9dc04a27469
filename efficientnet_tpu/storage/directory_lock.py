"""A lock on a directory, local or gs://: one training in a model_dir, one conversion to an output_dir.

A second training would delete and overwrite the checkpoints of the first. On a local disk the lock is the operating
system's, which releases it when the process dies. Object stores have no locks. There the holder counts in a file, and
a later process waits to see whether the count changes. No clocks are compared, so a wrong clock does no harm.

A lock file holds a token. By it a process knows, before it writes, that the directory is still the one it has locked:
a directory can be removed, and another run can begin in one of the same name.
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
from collections.abc import Callable, Iterator
from typing import TextIO

import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.durable import make_directories, sync_file
from efficientnet_tpu.storage.regular_file import irregular_kind, require_regular
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
            make_directories(directory)
    with _remote_lock(path, named, activity) if "://" in path else _local_lock(path, named, activity) as lock:
        _locks[_key(directory)] = lock
        try:
            yield
        finally:
            del _locks[_key(directory)]


def require_ours(directory: str) -> None:
    """Raises UserError if a directory that this process holds was removed or replaced since, FileNotFoundError if it is
    out of reach, as where a disk was unmounted. To be called before anything in it is written or removed.

    A directory that this process does not hold passes.
    """
    lock = _locks.get(_key(directory))
    if lock:
        lock.require_ours()


def wait_until_free(directory: str, give_up: Callable[[], bool]) -> None:
    """Returns when no process of this machine holds the local `directory`, or when `give_up` says so; prints a line
    about who does.
    """
    path = os.path.join(directory, LOCK_FILE)
    is_announced = False
    while os.path.exists(path) and not irregular_kind(path) and not give_up():
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                pass
            except OSError:  # a file system without locks: the one who wants it waits for the count
                return
        if not is_announced:
            print(f"{directory}: waiting for {_holder(_read(path) or '')} to save and end", flush=True)
            is_announced = True
        time.sleep(0.5)


@contextlib.contextmanager
def taken_from_the_dead(lock_file: str) -> Iterator[bool]:
    """Yields whether a local lock file was left by a process that was killed: it is one of ours, and nobody holds it.

    It is held in this context then, and removed at its end.
    """
    try:
        json.JSONDecoder().raw_decode(_read(lock_file) or "")[0]["process"]
        file = _open_locked(lock_file)
    except (ValueError, KeyError, TypeError, RecursionError, OSError, tf.errors.OpError):
        yield False
        return
    with file:
        yield True
        os.remove(lock_file)


class _Lock:
    """A lock that this process holds, and the token by which it knows it again."""

    def __init__(self, path: str, named: str, activity: str) -> None:
        self.path = path
        self.named = named
        self.activity = activity
        self.token = uuid.uuid4().hex
        started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        holder = {"host": socket.gethostname(), "process": os.getpid(), "started": started, "token": self.token}
        self.description = json.dumps(holder)

    def require_ours(self) -> None:
        """Raises as the function `require_ours` does."""
        raise NotImplementedError

    def lost(self, description: str | None) -> UserError:
        """Returns the error for a directory that was removed (None), or whose lock file says who has it now."""
        happened = "was removed"
        if description is not None:
            happened = f"was replaced, and is now used by {_holder(description)},"
        return UserError(
            f"{self.named}: {happened} while this {self.activity} was at work there. It ends here, and has not written "
            f"into what is there now. Give the same command, with another directory where this one is in use."
        )


class _LocalLock(_Lock):
    """A lock of the operating system, held by an open file."""

    def __init__(self, path: str, named: str, activity: str, file: TextIO) -> None:
        super().__init__(path, named, activity)
        self._file = file
        self._reopening = threading.Lock()

    def describe(self) -> None:
        """Writes who holds the lock into its file. Raises UserError where the disk is full."""
        with explained_write_errors(self.named, _REMEDY):
            self._file.truncate(0)
            os.write(self._file.fileno(), self.description.encode())
            sync_file(self.path)

    def require_ours(self) -> None:
        """Raises as the function `require_ours` does."""
        with self._reopening:
            try:
                found = os.stat(self.path)
            except (FileNotFoundError, NotADirectoryError) as error:
                if os.fstat(self._file.fileno()).st_nlink == 0:
                    raise self.lost(None) from error
                raise FileNotFoundError(errno.ENOENT, "the directory has vanished", self.path) from error
            if not os.path.samestat(found, os.fstat(self._file.fileno())):
                self._reopen()

    def _reopen(self) -> None:
        """Locks the file anew where the disk was mounted anew. Raises UserError where it is another's."""
        try:
            file = _open_locked(self.path)
        except BlockingIOError as error:
            raise self.lost(_read(self.path) or "") from error
        description = _read(self.path) or ""
        if self.token not in description:
            file.close()
            raise self.lost(description)
        self._file.close()
        self._file = file

    def release(self) -> None:
        """Removes the lock file, unless it is another's, and gives the lock back."""
        with self._file, contextlib.suppress(OSError):  # the directory may have been removed
            if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path)):
                os.remove(self.path)


class _CountingLock(_Lock):
    """A lock for places without locks: its file holds a count that goes on."""

    def __init__(self, path: str, named: str, activity: str) -> None:
        super().__init__(path, named, activity)
        self._ended = threading.Event()
        self._write(0)
        self._beating = threading.Thread(target=self._beat, daemon=True, name="directory lock")
        self._beating.start()

    def require_ours(self) -> None:
        """Raises as the function `require_ours` does."""
        found = _read(self.path)
        if found is None and "://" not in self.path and not os.path.isdir(os.path.dirname(self.path)):
            raise FileNotFoundError(errno.ENOENT, "the directory has vanished", self.path)
        if found is None or self.token not in found:
            raise self.lost(found)

    def _is_ours(self) -> bool:
        return self.token in (_read(self.path) or "")

    def _write(self, count: int) -> None:
        write_atomically(self.path, f"{self.description} {count}")

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(BEAT):
            count += 1
            with contextlib.suppress(tf.errors.OpError, OSError):  # the next beat may get through
                if self._is_ours():  # a count in another's lock file would end the other
                    self._write(count)

    def release(self) -> None:
        """Ends the count and removes the lock file, unless it is another's."""
        self._ended.set()
        self._beating.join()
        with contextlib.suppress(tf.errors.OpError, OSError):
            if self._is_ours():
                tf.io.gfile.remove(self.path)


# What this process holds, by directory: a lock is the process's, and whatever it writes may ask.
_locks: dict[str, _Lock] = {}


def _key(directory: str) -> str:
    return directory.rstrip("/") if "://" in directory else os.path.abspath(directory)


@contextlib.contextmanager
def _local_lock(path: str, named: str, activity: str) -> Iterator[_Lock]:
    try:
        file = _open_locked(path)
    except BlockingIOError as error:
        raise _in_use(named, activity, _read(path) or "") from error
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
            raise cannot_be_written(named, error, _REMEDY) from error
        file = None  # a network file system without locks
    if file is None:
        with _remote_lock(path, named, activity) as counting:
            yield counting
        return
    with file:
        lock = _LocalLock(path, named, activity, file)
        try:
            lock.describe()
            yield lock
        finally:
            lock.release()


def _open_locked(path: str) -> TextIO:
    """Opens the lock file and locks it. Raises BlockingIOError when another process holds it, and UserError for what is
    no regular file.
    """
    require_regular(path, path)
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
def _remote_lock(path: str, named: str, activity: str) -> Iterator[_Lock]:
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
    with explained_write_errors(named, _REMEDY):
        lock = _CountingLock(path, named, activity)
    try:
        yield lock
    finally:
        lock.release()


def _in_use(named: str, activity: str, description: str) -> UserError:
    return UserError(
        f"{named}: another {activity} is at work there ({_holder(description)}). Wait for it, stop it, or choose "
        "another directory."
    )


def _holder(description: str) -> str:
    """Returns who wrote the content of a lock file, in words."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        holder, _ = json.JSONDecoder().raw_decode(description)
        description = f"process {holder['process']} on {holder['host']}, started {holder['started']}"
    return shown(description) or "another process"


def _read(path: str) -> str | None:
    require_regular(path, path)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read().decode(errors="replace")
    except tf.errors.NotFoundError:
        return None
