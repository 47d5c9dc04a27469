"""Paths that name no regular file: pipes, devices, sockets, and what the system makes up below /proc and /sys.

To open a pipe waits for its writer forever, and a device may have no end. Nothing is opened here.
"""

import functools
import os
import stat

from efficientnet_tpu.errors import UserError

_KINDS = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFSOCK: "socket",
}
_SYSTEM = "file that the system makes up"
IRREGULAR = (*dict.fromkeys(_KINDS.values()), _SYSTEM)  # all that `irregular_kind` returns
# File systems whose files have no size, and often no end. Links lead there from anywhere.
_SYSTEM_FOLDERS = (
    "/proc",
    "/sys",
    "/sys/fs/cgroup",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
)


def irregular_kind(path: str, status: os.stat_result | None = None) -> str:
    """Returns what a path names that is neither a file nor a folder, one of IRREGULAR; links are followed.

    Empty for files and folders, where nothing is, and for remote paths. status: of the path, if it is known.
    """
    if status is None:
        if "://" in path:
            return ""
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # it is not there, or no file can be called so
            return ""
    if stat.S_ISREG(status.st_mode):
        return _SYSTEM if status.st_dev in _system_devices() else ""
    return "" if stat.S_ISDIR(status.st_mode) else _KINDS.get(stat.S_IFMT(status.st_mode), _SYSTEM)


def require_regular(path: str, named: str, most_bytes: int | None = None) -> None:
    """Raises UserError where `path` names something else than a regular file, or a larger one; not where nothing is.

    named: what the user typed, with its flag. A remote file is not looked at.
    """
    kind = irregular_kind(path)
    if kind:
        raise UserError(f"{named}: is a {kind}, which is not opened. Copy what it gives to a file, and name that.")
    if most_bytes is not None and (size := size_of(path)) > most_bytes:
        raise UserError(f"{named}: has {size:,} bytes; at most {most_bytes:,} are read. It is of another kind.")


def size_of(path: str) -> int:
    """Returns the bytes of a local file; 0 of one that is not there, or remote."""
    try:
        return 0 if "://" in path else os.stat(path).st_size
    except (OSError, ValueError):
        return 0


@functools.cache
def _system_devices() -> frozenset[int]:
    """Returns the numbers of the file systems that the system makes up."""
    own = os.stat("/").st_dev  # where such a folder is an ordinary one
    return frozenset(os.stat(folder).st_dev for folder in _SYSTEM_FOLDERS if os.path.isdir(folder)) - {own}
