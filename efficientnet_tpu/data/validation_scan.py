"""Before a run's first step: whether all images that it will be evaluated on can be read.

Evaluation skips none, and would end the run at the first that cannot be read, hours after its start. Images are
prepared as in evaluation: the scan finds what evaluation would, and takes as long as its reading. What was found whole
is kept in the user's cache, by the names, sizes and times of the files: the next start reads nothing.
"""

import functools
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf

from efficientnet_tpu.data.input_pipeline import unreadable_positions
from efficientnet_tpu.data.preprocessing import Preparation, eval_image
from efficientnet_tpu.data.skip_unreadable import find_reason
from efficientnet_tpu.data.split import HostShard, Split
from efficientnet_tpu.display.terminal import ImageProgress, duration
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import distribution
from efficientnet_tpu.installation import program
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.user_cache import mark_used, remove_unused, user_cache
from efficientnet_tpu.storage.write_errors import error_kinds
from efficientnet_tpu.texts.printable import escaped

_NAMED = 3  # unreadable images, of however many
_SILENT_SECONDS = 2.0
_STATS_AT_ONCE = 32
_KEPT = re.compile(r"[0-9a-f]{32}(\.\d+\.tmp)?")  # names of scans in the cache, which are empty files
# Remote image files are known by their names alone: a request for each would take as long as reading them.
_MOST_REMOTE_STATS = 4096


def require_readable(
    strategy: tf.distribute.Strategy, splits: Mapping[str, Split | None], preparation: Preparation, source: str
) -> None:
    """Raises UserError, on all hosts, where an image of the splits cannot be read. Every host must call it.

    splits: by their names. source: the flag that named the images, with its value.
    """
    shard = HostShard(distribution.host_index(strategy), distribution.num_hosts(strategy))
    there = {name: split for name, split in splits.items() if split is not None}
    problem = find_unreadable(there, preparation, shard, source, prints=distribution.is_chief(strategy))
    if distribution.any_host(strategy, bool(problem)):
        raise UserError(problem or f"{source}: another host cannot read all images that are to be evaluated.")


def find_unreadable(
    splits: Mapping[str, Split], preparation: Preparation, shard: HostShard, source: str, prints: bool = True
) -> str:
    """Reads the images of the splits, the host's part of each. Returns what a UserError says of those that cannot be
    read, an empty string where all can.

    Made-up images are not read.
    """
    prepare = functools.partial(eval_image, preparation=preparation)
    for name, split in splits.items():
        kept = _kept_in(split, preparation, shard)
        if kept is None:
            continue
        if os.path.exists(kept):
            mark_used(kept)
            continue
        progress = _Progress(name, shard.num_images(split.num_images)) if prints else None
        bad = list(unreadable_positions(split, prepare, shard, progress.advance if progress else lambda count: None))
        if bad:
            return _describe(name, split, shard, bad, source)
        if progress:
            progress.end()
        _keep(kept)
    return ""


def _describe(name: str, split: Split, shard: HostShard, bad: list[int], source: str) -> str:
    examples = [
        f"  {escaped(split.locate(shard, None, at))}: {find_reason(split, shard, None, at)}" for at in bad[:_NAMED]
    ]
    more = [f"  and {len(bad) - _NAMED:,} more"] if len(bad) > _NAMED else []
    lines = [
        f"{source}: {len(bad):,} of {shard.num_images(split.num_images):,} {name} images cannot be read, and "
        "evaluation skips none:",
        *examples,
        *more,
        f"Mend or remove them: `{program()} check-data` lists all. --novalidation_scan starts without this look; the "
        "run then ends at its first evaluation.",
    ]
    return "\n".join(lines)


class _Progress:
    """Lines about a scan that takes more than two seconds."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total = name, total
        self._start = time.monotonic()
        self._lines: ImageProgress | None = None
        self._done = 0

    def advance(self, images: int) -> None:
        """Counts `images` more."""
        self._done += images
        if self._lines:
            self._lines.advance(images)
        elif time.monotonic() - self._start > _SILENT_SECONDS:
            print(
                f"reading the {self._total:,} {self._name} images once, as evaluation skips none that cannot be read; "
                "--novalidation_scan does not",
                flush=True,
            )
            self._lines = ImageProgress(f"{self._name}:", self._total - self._done)

    def end(self) -> None:
        """Says how long it took, where a line said that it began."""
        if self._lines:
            seconds = duration(time.monotonic() - self._start)
            print(
                f"all {self._total:,} {self._name} images can be read: {seconds}, the next start needs none", flush=True
            )


def _kept_in(split: Split, preparation: Preparation, shard: HostShard) -> str | None:
    """Returns the file in the user's cache that stands for the host's images as they are now; None for made-up ones."""
    files = split.stored_in()
    if files is None:
        return None
    digest = hashlib.sha256(f"1 {tf.__version__} {preparation} {shard}\n".encode())
    for (path, part), state in zip(files, _states([path for path, _ in files]), strict=True):
        digest.update(f"{path}\0{part}\0{state}\n".encode(errors="surrogateescape"))
    return os.path.join(user_cache(), "readable_images", digest.hexdigest()[:32])


def _states(paths: list[str]) -> Iterator[str]:
    """Yields a text for each path, which changes with the file's content: its size and time."""
    if paths and "://" not in paths[0]:
        yield from map(_local_state, paths)
    elif len(paths) <= _MOST_REMOTE_STATS:
        with ThreadPoolExecutor(_STATS_AT_ONCE) as pool:
            yield from pool.map(_remote_state, paths)
    else:
        yield from ("" for _ in paths)


def _local_state(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:  # the scan will say so, and nothing is kept
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def _remote_state(path: str) -> str:
    try:
        found = tf.io.gfile.stat(path)
    except tf.errors.OpError:
        return ""
    return f"{found.length} {found.mtime_nsec}"


def _keep(path: str) -> None:
    try:
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        write_atomically(path, "")
        remove_unused(folder, _KEPT)
    except error_kinds():  # without a cache the next start reads the images again
        pass
