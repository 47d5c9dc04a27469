"""Power cuts: a file system in an image file, of which copies are what a machine would find that lost its power.

The system writes to the image only what it would have written to a disk. A copy, mounted, is recovered by its journal.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

# So long the image must have been left alone before a copy of it is one moment's.
_QUIET_SECONDS = 0.02


def why_not():
    """Why no file system can be mounted here; empty where it can."""
    tools = [tool for tool in ("mkfs.ext4", "mount", "umount") if shutil.which(tool) is None]
    if tools or os.geteuid() != 0:
        return f"needs root and {', '.join(tools) or 'mount'}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            image = make_image(Path(folder) / "image", megabytes=8)
            (Path(folder) / "there").mkdir()
            with mounted(image, Path(folder) / "there"):
                return ""
        except subprocess.CalledProcessError as error:
            return f"cannot mount an image file: {error.stderr.decode().strip()}"


def make_image(path, megabytes):
    """A file that holds an empty ext4 file system, as large as said."""
    with open(path, "wb") as file:
        file.truncate(megabytes << 20)
    _run("mkfs.ext4", "-q", "-F", str(path))
    return path


@contextlib.contextmanager
def mounted(image, directory):
    """The image is mounted on the directory."""
    _run("mount", "-o", "loop", str(image), str(directory))
    try:
        yield directory
    finally:
        _run("umount", "-l", str(directory))  # at the latest when the last file in it is closed


def cut_power(image, copy):
    """Copies the image as it is at one moment: again, until nothing was written to it meanwhile."""
    while True:
        written = os.stat(image).st_mtime_ns
        if time.time_ns() - written > 1e9 * _QUIET_SECONDS:
            _run("cp", "--sparse=always", str(image), str(copy))
            if os.stat(image).st_mtime_ns == written:
                return copy
        time.sleep(_QUIET_SECONDS)


def _run(*command):
    subprocess.run(command, check=True, capture_output=True)
