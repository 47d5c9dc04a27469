"""Standard output and error of the program, whatever is on their other end: nobody, a full disk, a lost terminal.

A command whose work is in files goes on without them; what it prints is dropped. Of another the output is the work: it
ends where nothing takes it. Either way the exit status tells.
"""

import contextlib
import errno
import io
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from efficientnet_tpu.hardware.library_messages import without_library_messages

# The exit status of a command that did its work and whose output was lost, wholly or in part: sysexits.h's EX_IOERR.
OUTPUT_LOST = 74
_NAMES = ("stdout", "stderr")


class OutputLostError(Exception):
    """The end of a command whose work is its output, which cannot be written, for `error`."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Stream(io.FileIO):
    """The descriptor of a standard stream. Writing to it never fails but once, where the output is the work.

    error_elsewhere: returns the number of the first error of whoever takes the text from the descriptor.
    """

    def __init__(self, number: int, was_closed: bool) -> None:
        super().__init__(number, "w", closefd=False)
        self.name = f"<{_NAMES[number - 1]}>"
        self.is_the_work = number == 1
        self.error_elsewhere: Callable[[], int] = int
        self._error = 0
        self._was_closed = was_closed
        self._is_terminal = super().isatty()

    def isatty(self) -> bool:
        """Returns whether the stream was a terminal at first: stderr passes through another process later."""
        return self._is_terminal

    @property
    def error(self) -> int:
        """The number of the first error of writing; 0 as long as there was none."""
        return self._error or self.error_elsewhere()

    def write(self, content: Any, /) -> int:
        """Writes bytes; returns the number of those that need not be written again."""
        try:
            if self._was_closed:  # /dev/null stands in for it
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            while (written := super().write(content)) is None:  # a program that shares it has made it non-blocking
                select.select((), (self,), ())
        except OSError as error:
            self._error = self._error or error.errno or errno.EIO
            # An error in a thread of a library would be its error; the next line of this one meets the same.
            if self.is_the_work and threading.current_thread() is threading.main_thread():
                self.is_the_work = False
                raise OutputLostError(error) from error
            return memoryview(content).nbytes
        return written


@contextlib.contextmanager
def guarded() -> Iterator[dict[str, str]]:
    """Guards sys.stdout and sys.stderr in this context, where they are the process's own.

    Yields a dict that holds, after the context, what `lost_output` returned at its end.
    Opens /dev/null in place of those of the descriptors 0 to 2 that are closed: a file opened later, a checkpoint say,
    would get the number, and what C++ libraries write to stderr.
    """
    closed = _open_closed_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process
    before = {name: getattr(sys, name) for name in _NAMES}
    for number, name in enumerate(_NAMES, start=1):
        if before[name] is getattr(sys, f"__{name}__"):  # not a notebook's or a test's
            setattr(sys, name, _text_stream(_Stream(number, number in closed), before[name]))
    lost: dict[str, str] = {}
    try:
        with without_library_messages() as error_of_stderr:
            for stream in _guarded_streams():
                if stream.name == "<stderr>":
                    stream.error_elsewhere = error_of_stderr
            yield lost
            go_on_without_output()
            for name in _NAMES:
                getattr(sys, name).flush()
        lost |= lost_output()
    finally:
        go_on_without_output()  # no buffer that is emptied late ends anything
        for name, stream in before.items():
            setattr(sys, name, stream)


def _text_stream(raw: _Stream, before: io.TextIOWrapper | None) -> io.TextIOWrapper:
    if before is not None:
        before.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before else "utf-8",
        errors="backslashreplace",  # a name that the terminal's encoding lacks is no error
        line_buffering=raw.name == "<stderr>" or raw.isatty(),
    )


def go_on_without_output() -> None:
    """Lets the program go on where its output cannot be written: its work is in files."""
    for stream in _guarded_streams():
        stream.is_the_work = False


def lost_output() -> dict[str, str]:
    """Returns the standard streams that something could not be written to, each with the reason; usually none."""
    return {stream.name.strip("<>"): os.strerror(stream.error) for stream in _guarded_streams() if stream.error}


def _guarded_streams() -> list[_Stream]:
    raw = [getattr(getattr(getattr(sys, name), "buffer", None), "raw", None) for name in _NAMES]
    return [stream for stream in raw if isinstance(stream, _Stream)]


def _open_closed_descriptors() -> set[int]:
    """Opens /dev/null as those of the descriptors 0 to 2 that are closed, and returns these."""
    closed = set()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
            closed.add(number)
    return closed
