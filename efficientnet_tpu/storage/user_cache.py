"""The folder for what the program can make again: compiled kernels, validation sets that were found readable.

Whatever is in it may be removed at any time, by other programs too. A kind of files has a folder with a bound: those
that were not used for longest go.
"""

import contextlib
import os
import re
import time

_SECONDS_BETWEEN_MARKS = 24 * 3600.0  # a use is worth a write no more often
MOST_KEPT = 1000  # files of a kind


def user_cache() -> str:
    """Returns the program's folder in the user's cache, by the XDG specification. It need not exist."""
    place = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(place):  # the specification has it ignored then
        place = os.path.expanduser("~/.cache")
    if place.startswith("~"):  # a container's user without a home
        place = "/nonexistent"
    return os.path.join(place, "efficientnet_tpu")


def mark_used(path: str) -> None:
    """Notes that a file was used now, so that others go first. Where it cannot be noted, nothing happens."""
    with contextlib.suppress(OSError):
        if time.time() - os.stat(path).st_mtime > _SECONDS_BETWEEN_MARKS:
            os.utime(path)


def remove_unused(folder: str, names: re.Pattern[str], most: int = MOST_KEPT) -> None:
    """Removes files whose names match, all but the `most` that were written or used last.

    What another program has removed or is replacing meanwhile is left to it.
    """
    used: list[tuple[float, str]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if names.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    used.append((entry.stat(follow_symlinks=False).st_mtime, entry.path))
    for _, path in sorted(used, reverse=True)[most:]:
        with contextlib.suppress(OSError):
            os.remove(path)
