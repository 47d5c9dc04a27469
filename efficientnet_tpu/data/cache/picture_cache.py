"""Reduced pictures in memory or on the disk, and their reading inside TensorFlow's graphs.

A table, TensorFlow's own, tells for an image's number what is kept of it. What is kept is read in the graph, where
threads do not wait for Python's lock; what is not is made by Python, the first time.

An image is always given in its reduced form, whether that can be kept or not: a stream of batches depends neither on
what a cache holds, nor on the room that is left.
"""

import abc
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from efficientnet_tpu.data.cache import cache_place
from efficientnet_tpu.data.cache.cache_place import DIGEST_DIGITS
from efficientnet_tpu.data.cache.reduced_picture import KeptReductions
from efficientnet_tpu.storage.write_errors import write_error_reason

_AS_IT_IS = "="  # kept of a picture that is not reduced
_STATES_AT_ONCE = 32  # of remote files
_SETTLED_SECONDS = 2.0  # the coarsest time stamps: a file changed since may be changed again without another one


class PictureCache(abc.ABC):
    """Keeps the images of a split. paths: of their files, by their numbers."""

    def __init__(self, paths: Sequence[str], reductions: KeptReductions) -> None:
        self._paths, self._reductions = paths, reductions
        self._lock = threading.Lock()
        self._known: set[int] = set()
        with tf.device("CPU:0"):
            self._kept = tf.lookup.experimental.MutableHashTable(tf.int64, tf.string, "")

    @property
    def num_images(self) -> int:
        """The images of the split."""
        return len(self._paths)

    def missing(self) -> list[int]:
        """Returns the numbers of the images of which nothing is known yet."""
        return [number for number in range(len(self._paths)) if number not in self._known]

    def content(self, number: tf.Tensor, path: tf.Tensor) -> tf.Tensor:
        """Returns the content of an image's file, or its reduced picture: int64 scalar, string scalar -> string scalar.

        Raises what reading the file raises.
        """
        kept = self._kept.lookup(number)

        def original() -> tf.Tensor:
            return tf.io.read_file(path)

        def made() -> tf.Tensor:
            content = tf.ensure_shape(tf.numpy_function(self._make_for_graph, [number], tf.string), [])
            return tf.cond(content == "", original, lambda: content)

        def read() -> tf.Tensor:
            content = self._read(kept)
            return tf.cond(content == "", made, lambda: content)

        return tf.cond(kept == _AS_IT_IS, original, read)

    def make(self, number: int) -> bytes:
        """Reduces a picture and keeps it, if it can be. Returns it; what is not reduced is returned as it is.

        Raises OSError and tf.errors.OpError for what cannot be read.
        """
        path = self._paths[number]
        state = _State.of(path)
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
        reduced = self._reductions.reduced(content)
        if not reduced:
            self._note(number, _AS_IT_IS)
            return content
        self._keep(number, reduced, state)
        return reduced

    def _make_for_graph(self, number: np.int64) -> bytes:
        try:
            return self.make(int(number))
        except (OSError, tf.errors.OpError):  # the graph reads the file itself, and says what is wrong with it
            return b""

    def _note(self, number: int, kept: str | bytes) -> None:
        with tf.device("CPU:0"):
            self._kept.insert(tf.constant(number, tf.int64), tf.constant(kept))
        self._known.add(number)

    @abc.abstractmethod
    def _keep(self, number: int, reduced: bytes, state: "_State") -> None:
        """Keeps a reduced picture where there is room. state: of its source, before it was read."""

    @abc.abstractmethod
    def _read(self, kept: tf.Tensor) -> tf.Tensor:
        """Returns a reduced picture by what the table tells, "" if there is none: string scalar -> string scalar."""


class Budget:
    """Bytes of memory that the caches of a run may take together."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self._taken = 0
        self._lock = threading.Lock()

    def take(self, num_bytes: int) -> bool:
        """Takes so many bytes, and returns True, unless fewer are left."""
        with self._lock:
            if self._taken + num_bytes > self.num_bytes:
                return False
            self._taken += num_bytes
            return True


class MemoryCache(PictureCache):
    """Reduced pictures in this process' memory, as many as `budget` allows."""

    def __init__(self, paths: Sequence[str], reductions: KeptReductions, budget: Budget) -> None:
        super().__init__(paths, reductions)
        self._budget = budget

    def _keep(self, number: int, reduced: bytes, state: "_State") -> None:
        if self._budget.take(len(reduced)):
            self._note(number, reduced)

    def _read(self, kept: tf.Tensor) -> tf.Tensor:
        return kept


class DirectoryCache(PictureCache):
    """Reduced pictures as files in `place`, those of one rule in a folder. Processes may share it.

    A picture is found by its source's path, size and times. One whose source has changed since the cache was opened is
    not kept: the next start keeps it.
    """

    def __init__(self, paths: Sequence[str], reductions: KeptReductions, place: str, rule: str) -> None:
        super().__init__(paths, reductions)
        self._place, self._folder = place, os.path.join(place, rule)
        self._keys = _source_keys(paths)
        self._is_writable = True
        found = cache_place.entries(self._folder)
        numbers = [number for number, key in enumerate(self._keys) if key in found]
        if numbers:
            with tf.device("CPU:0"):
                entries = tf.constant([found[self._keys[number]] for number in numbers])
                self._kept.insert(tf.constant(numbers, tf.int64), entries)
            self._known.update(numbers)

    def make(self, number: int) -> bytes:
        """Takes what another process has kept meanwhile; else as `PictureCache.make`. Removes a damaged file."""
        entry = cache_place.find_entry(self._folder, self._keys[number]) if self._keys[number] else None
        if entry:
            try:
                with open(entry, "rb") as file:
                    reduced = file.read()
                if entry.endswith(f"-{_digest(reduced)}"):
                    self._note(number, entry)
                    return reduced
                os.remove(entry)
            except OSError:  # gone, or not ours to read: it is made again
                pass
        return super().make(number)

    def _keep(self, number: int, reduced: bytes, state: "_State") -> None:
        path, key = self._paths[number], self._keys[number]
        if not (self._is_writable and key and state.is_settled):
            return
        # The same before and after it was read, and when the cache was opened: the content is that of the key.
        if {cache_place.source_key(path, one.text) for one in (state, _State.of(path))} != {key}:
            return
        try:
            entry = cache_place.write_entry(self._folder, key, _digest(reduced), reduced)
        except OSError as error:
            self._stop_writing(error)
            return
        self._note(number, entry)

    def _stop_writing(self, error: OSError) -> None:
        """Says once that nothing more is kept."""
        with self._lock:
            said, self._is_writable = not self._is_writable, False
        if not said:
            print(
                f"--cache={self._place}: cannot be written: {write_error_reason(error)}. The run goes on; images that "
                "are not kept yet are reduced anew every time",
                flush=True,
            )

    def _read(self, kept: tf.Tensor) -> tf.Tensor:
        # No error but an empty answer for a file that was removed.
        files = tf.raw_ops.MatchingFiles(pattern=kept)

        def whole() -> tf.Tensor:
            content = tf.io.read_file(files[0])
            digest = tf.strings.substr(kept, -DIGEST_DIGITS, DIGEST_DIGITS)
            return tf.cond(_digest_tensor(content) == digest, lambda: content, lambda: tf.constant(b""))

        return tf.cond(tf.size(files) > 0, whole, lambda: tf.constant(b""))


@dataclass(frozen=True)
class _State:
    """Tells by these that a file has changed: its size, and when it and its entry in the directory were changed.

    The last, ctime, no program can set: a file that was replaced by one of the same size and time is another.
    """

    text: str
    changed: float  # seconds since 1970

    @classmethod
    def of(cls, path: str) -> "_State":
        """Raises OSError, or for gs:// tf.errors.OpError."""
        if "://" in path:
            found = tf.io.gfile.stat(path)
            return cls(f"{found.length} {found.mtime_nsec}", found.mtime_nsec / 1e9)
        status = os.stat(path)
        return cls(f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}", status.st_ctime)

    @property
    def is_settled(self) -> bool:
        """Whether a further change would have another time."""
        return time.time() - self.changed >= _SETTLED_SECONDS


def _source_keys(paths: Sequence[str]) -> list[str]:
    """Returns the key of each file as it is now, "" for one that cannot be looked at."""

    def key(path: str) -> str:
        try:
            return cache_place.source_key(path, _State.of(path).text)
        except (OSError, tf.errors.OpError):
            return ""

    if not any("://" in path for path in paths):
        return [key(path) for path in paths]
    with ThreadPoolExecutor(_STATES_AT_ONCE) as pool:
        return list(pool.map(key, paths))


def _digest_tensor(content: tf.Tensor) -> tf.Tensor:
    """Returns FarmHash64 without a bit as decimal digits: string scalar -> string scalar. 350 kB take 10 us."""
    number = tf.strings.to_hash_bucket_fast(content, 2**63 - 1)
    return tf.strings.as_string(number, width=DIGEST_DIGITS, fill="0")


def _digest(content: bytes) -> str:
    with tf.device("CPU:0"):
        return _digest_tensor(tf.constant(content)).numpy().decode()
