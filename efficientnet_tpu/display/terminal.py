"""Text for people on a terminal: durations, and a line every few seconds on how far a pass over images is."""

import sys
import threading
import time
from typing import TextIO

SECONDS_PER_LINE = 5.0


def duration(seconds: float) -> str:
    """Returns the time in its two largest units: '45 s', '3 min 5 s', '2 h 7 min', '3 d 4 h'."""
    seconds = round(seconds)
    for large, small, size, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if seconds >= size:
            return f"{seconds // size} {large} {seconds % size // part} {small}"
    return f"{seconds} s"


class ImageProgress:
    """A line every few seconds: images done, those that cannot be read, images per second, time left.

    Threads may share it.
    """

    def __init__(self, label: str, total: int, file: TextIO | None = None) -> None:
        """label: begins the line. total: images of the whole pass. file: where lines go, by default stdout."""
        self._label, self._total, self._file = label, total, file
        self._done = self._unreadable = 0
        self._start = self._last_line = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, images: int = 1, unreadable: int = 0) -> None:
        """Counts `images` more, `unreadable` of them without use; prints a line if the last one is old."""
        with self._lock:
            self._done += images
            self._unreadable += unreadable
            now = time.monotonic()
            if now - self._last_line < SECONDS_PER_LINE:
                return
            self._last_line = now
            rate = self._done / (now - self._start)
            left = duration((self._total - self._done) / rate)
            skipped = f"  {self._unreadable:,} unreadable" if self._unreadable else ""
            print(
                f"{self._label} {self._done:,}/{self._total:,} images{skipped}  "
                f"{rate:,.{0 if rate >= 10 else 1}f} images/s  {left} to go",
                file=self._file or sys.stdout,
                flush=True,
            )
