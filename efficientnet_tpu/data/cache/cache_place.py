"""The directory of --cache: whether it is one, and the names in it. Needs no TensorFlow.

DIR/efficientnet_tpu_cache.txt says that the directory is ours. DIR/RULE/xx/NAME is a reduced picture: RULE names what
decides its content beside its source, NAME has a hash of the source's path, size and times, and the content's digest.
A file is written under another name and renamed: under NAME it is whole, or damaged later, which the digest shows.
"""

import contextlib
import hashlib
import os
import re
import threading

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.atomic_write import write_atomically
from efficientnet_tpu.storage.durable import make_directories
from efficientnet_tpu.storage.leftovers import is_left, marked_in_use
from efficientnet_tpu.storage.write_errors import explained_write_errors

IN_MEMORY = "memory"
DIGEST_DIGITS = 19  # of a number below 2^63
_MARK = "efficientnet_tpu_cache.txt"
_MARK_TEXT = "Reduced pictures of efficientnet_tpu --cache. It may be removed at any time.\n"
_ENTRY = re.compile(rf"([0-9a-f]{{32}})-\d{{{DIGEST_DIGITS}}}")
_UNFINISHED = re.compile(r"[0-9a-f]{32}\.(\d+)-\d+\.tmp")
_PATTERN_CHARACTERS = "*?[\\"


def require_ours(place: str, data_dir: str = "") -> None:
    """Raises UserError unless --cache names a directory that is ours, is empty, or is not there yet.

    data_dir: of the images, whose folders are classes.
    """
    if not place or place == IN_MEMORY:
        return
    named, remedy = f"--cache={place}", "Name an empty or a new directory, or leave --cache out."
    if "://" in place:
        raise UserError(f"{named}: must be {IN_MEMORY} or a directory of this machine.")
    if set(place) & set(_PATTERN_CHARACTERS):
        characters = " ".join(_PATTERN_CHARACTERS)
        raise UserError(f"{named}: has one of {characters}, which TensorFlow takes for a pattern. {remedy}")
    if os.path.isdir(data_dir):
        images = os.path.realpath(data_dir)
        if os.path.commonpath([images, os.path.realpath(place)]) == images:
            raise UserError(f"{named}: lies in --data_dir={data_dir}, whose folders are classes. {remedy}")
    if not os.path.lexists(place):
        return
    if not os.path.isdir(place):
        raise UserError(f"{named}: is no directory. {remedy}")
    try:
        names = os.listdir(place)
    except OSError as error:
        raise UserError(f"{named}: cannot be read: {error.strerror}. {remedy}") from error
    others = [name for name in sorted(names) if not name.startswith(_MARK)]
    if others and _MARK not in names:
        raise UserError(f"{named}: has other things in it, {others[0]} for one. {remedy}")


def is_ours(place: str) -> bool:
    """Returns whether a cache was made there."""
    return os.path.isfile(os.path.join(place, _MARK))


def make(place: str) -> None:
    """Makes the directory. Raises UserError where that fails."""
    require_ours(place)
    with explained_write_errors(f"--cache={place}", "Name another directory"):
        make_directories(place)
        if not is_ours(place):
            write_atomically(os.path.join(place, _MARK), _MARK_TEXT)


def entries(folder: str) -> dict[str, str]:
    """Returns the path of each reduced picture in a rule's folder by its source's hash, and removes what killed
    processes have left.
    """
    found = {}
    with contextlib.suppress(OSError):
        for part in os.scandir(folder):
            with contextlib.suppress(OSError):
                for name in os.listdir(part.path):
                    path = os.path.join(part.path, name)
                    if match := _ENTRY.fullmatch(name):
                        found[match[1]] = path
                    elif (match := _UNFINISHED.fullmatch(name)) and is_left(path, int(match[1])):
                        os.remove(path)
    return found


def find_entry(folder: str, key: str) -> str | None:
    """Returns the path of one reduced picture; None if it is not there."""
    part = os.path.join(folder, key[:2])
    with contextlib.suppress(OSError):
        return next((os.path.join(part, name) for name in os.listdir(part) if name.startswith(f"{key}-")), None)
    return None


def write_entry(folder: str, key: str, digest: str, content: bytes) -> str:
    """Writes a reduced picture and returns its path. Raises OSError.

    It is not flushed to the disk: after a power cut the digest tells, and the picture is reduced again.
    """
    part = os.path.join(folder, key[:2])
    path, temporary = os.path.join(part, f"{key}-{digest}"), os.path.join(part, _unfinished(key))
    os.makedirs(part, exist_ok=True)
    try:
        with open(temporary, "wb") as file, marked_in_use(temporary):
            file.write(content)
            file.flush()
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    return path


def _unfinished(key: str) -> str:
    return f"{key}.{os.getpid()}-{threading.get_ident()}.tmp"


def source_key(path: str, state: str) -> str:
    """Returns the hash by which a source's reduced picture is found: 32 hexadecimal digits.

    state: a text that changes when the source's content does.
    """
    path = path if "://" in path else os.path.abspath(path)
    return hashlib.sha256(f"{path}\0{state}".encode(errors="surrogateescape")).hexdigest()[:32]
