"""A pass over many files: by threads, in order, with a line on the terminal every few seconds."""

import collections
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from efficientnet_tpu.display.terminal import duration

Item = TypeVar("Item")
Result = TypeVar("Result")

READERS = 16  # threads; they hide the latency of gs://
_SECONDS_BETWEEN_LINES = 5.0


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Sequence[Item], ahead: int
) -> Iterator[Result]:
    """function(item) of every item, in order; `ahead` of them at once."""
    pending = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) == ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


class FileProgress:
    """Prints a line every few seconds: images done, images per second, time left. `advance` from any thread."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._start = self._last_line = time.monotonic()
        self._lock = threading.Lock()

    def advance(self) -> None:
        """One image more."""
        with self._lock:
            self._done += 1
            now = time.monotonic()
            if now - self._last_line < _SECONDS_BETWEEN_LINES:
                return
            self._last_line = now
            rate = self._done / (now - self._start)
            left = duration((self._total - self._done) / rate)
            print(f"{self._what} {self._done:,}/{self._total:,} images  {rate:,.0f} images/s  {left} to go", flush=True)
