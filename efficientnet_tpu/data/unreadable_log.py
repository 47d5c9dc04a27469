"""The account of the unreadable images that training went on without."""

import itertools
import math
import os
import threading
from typing import Any

import tensorflow as tf

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.installation import program
from efficientnet_tpu.storage import directory_lock, json_lines
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.texts.printable import escaped

UNREADABLE_JSONL = "unreadable_images.jsonl"
# So many may be unreadable in a set of any size: the percentage of a small one is less than a single image.
ALWAYS_ALLOWED = 5
_NAMED = 5  # the first are printed, the others are in the file
_EXAMPLES = 3
_MILESTONES = {10**power for power in range(1, 10)}


def _line(where: str, reason: str) -> str:
    return json_lines.line({"where": where, "reason": reason})


def _entry(value: Any) -> tuple[str, str]:
    """Returns what `_line` wrote. Raises KeyError, TypeError or ValueError for another value."""
    where, reason = value["where"], value["reason"]
    if not (isinstance(where, str) and isinstance(reason, str)):
        raise TypeError(value)
    return where, reason


class UnreadableImages:
    """The distinct unreadable images of a run: listed in model_dir, announced, and too many at some point.

    `add` may be called from any thread and raises nothing, for it is called inside of input pipelines; `check` raises.
    """

    def __init__(self, model_dir: str | None, max_percent: float, num_images: int, source: str = "--data_dir") -> None:
        """model_dir: None lists them nowhere (hosts other than the first); num_images: of which they are a part;
        source: the flag that named the images, for messages.
        """
        self._path = os.path.join(model_dir, UNREADABLE_JSONL) if model_dir else None
        self._max_percent = max_percent
        self._num_images = num_images
        self._source = source
        self._allowed = max(math.floor(num_images * max_percent / 100), ALWAYS_ALLOWED) if max_percent else 0
        self._lock = threading.Lock()
        self._found: dict[str, str] = {}  # of this process: a file listed earlier may have been mended since
        self._listed = self._read_list()
        if self._listed:
            print(f"unreadable images known from before: {len(self._listed):,}, listed in {self._path}", flush=True)

    @property
    def count(self) -> int:
        """The number of distinct images found unreadable since the start."""
        return len(self._found)

    @property
    def allowed(self) -> int:
        """The number of images that may be unreadable."""
        return self._allowed

    def add(self, where: str, reason: str) -> None:
        """Notes a skipped image; `where` tells it from others, `reason` is for people. Repetitions change nothing."""
        with self._lock:
            if where in self._found:
                return
            self._found[where] = reason
            count = len(self._found)
            is_new = where not in self._listed
            if is_new:
                self._list(where, reason)
            listed = f", listed in {self._path}" if self._path else ""
            if is_new and count <= _NAMED:
                print(f"skipped {escaped(where)}: {escaped(reason)}; {count} so far{listed}", flush=True)
            elif count in _MILESTONES:
                print(f"skipped {count:,} unreadable images so far{listed}", flush=True)

    def check(self) -> None:
        """Raises UserError when there are more than may be skipped."""
        with self._lock:
            if len(self._found) <= self._allowed:
                return
            found = itertools.islice(self._found.items(), _EXAMPLES)
            examples = "".join(f"\n  {escaped(where)}: {escaped(reason)}" for where, reason in found)
        listed = f" All are listed in {self._path}." if self._path else ""
        raise UserError(
            f"{self._source}: {self.count:,} of {self._num_images:,} images cannot be read, for example:{examples}\n"
            f"--max_unreadable_percent={self._max_percent:g} allows {self._allowed:,}.{listed} Mend or move them "
            f"away (`{program()} check-data` finds all at once), or raise --max_unreadable_percent."
        )

    def _read_list(self) -> set[str]:
        """Reads which images an earlier part of the run has listed."""
        if self._path is None or not tf.io.gfile.exists(self._path):
            return set()
        found = json_lines.read(self._path, _entry)
        if found.damaged:  # by a kill while it wrote, for example
            print(found.damage(self._path), flush=True)
            write_atomically(self._path, "".join(_line(*entry) for entry in found.entries))
        return {where for where, _ in found.entries}

    def _list(self, where: str, reason: str) -> None:
        self._listed.add(where)
        if not self._path:
            return
        try:
            directory_lock.require_ours(os.path.dirname(self._path))
            with tf.io.gfile.GFile(self._path, "a") as file:
                file.write(_line(where, reason))
        except (tf.errors.OpError, OSError) as error:  # a full disk is no reason for the input pipeline to stop
            print(f"{self._path}: cannot be written: {getattr(error, 'message', error)}", flush=True)
        except UserError:  # model_dir is another run's: this one ends when it saves or logs
            self._path = None
