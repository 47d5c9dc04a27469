"""Messages of C++ libraries on stderr: none reaches the screen but those of a process that aborts.

TensorFlow and libjpeg write past Python, from any thread, and no setting silences what a user cannot use alone. So
stderr passes through another process, which takes their lines out. A thread of this one would lose the last words of
TensorFlow when it aborts.

- Lines of image decoders about damaged files are dropped: they do not name the file. The program does.
- Other lines of TensorFlow go to the file that `keep_in` names, a run's tensorflow.log.
- The last of those that no file has are printed if the process ends without saying that all is well.
- Where a library aborts the process and its last words are known, their cause and a command follow.
"""

import contextlib
import errno
import mmap
import os
import re
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator

from efficientnet_tpu.texts.known_errors import explanation

# The last: a picture is turned on its side on a CPU without AVX-512.
_DECODERS = (
    rb"((jpeg_mem|jpeg_handle|png_io|gif_io|webp_io|decode_image_op)\.cc:\d+\] |\] oneDNN supports DT_UINT8 only)"
)
# TensorFlow 2.21 begins with the severity, 2.20 with the date.
_OF_TENSORFLOW = rb"([WE]\d{4} |\d{4}-\d\d-\d\d \S+ [WE] )\S*.*" + _DECODERS
# How the messages of libjpeg-turbo about a file begin (its jerror.h).
_OF_LIBJPEG = (
    rb"Bogus |CCIR601 sampling|Corrupt JPEG data|Didn't expect more than one scan|Empty (JPEG image|input file)|"
    rb"Fractional sampling|Huffman (code size )?table|Improper call to JPEG library|Inconsistent progression sequence|"
    rb"Invalid (JPEG file structure|SOS parameters|component ID|crop request|progressive parameters)|"
    rb"Maximum supported image dimension|Missing Huffman code|Not a JPEG file|Premature end of JPEG|"
    rb"Quantization table 0x|Sorry, .*arithmetic|Too many color components|Unknown Adobe color|"
    rb"Unsupported (JPEG|color conversion|marker type)|Warning: unknown JFIF revision"
)
_OF_TENSORFLOW_LITE = rb"INFO: Created TensorFlow Lite "  # it names the delegate that it has chosen
_DROPPED = re.compile(rb"(%s|%s|%s)" % (_OF_TENSORFLOW, _OF_LIBJPEG, _OF_TENSORFLOW_LITE))
# Not F, for fatal: the last words of a process that aborts.
_KEPT = re.compile(
    rb"([IWE]\d{4} \d\d:|\d{4}-\d\d-\d\d \S+ [IWE] |[IWE]\d{4} 00:00:)[^\]]*\.(cc|cu|cpp|h):\d+\] |"
    rb"WARNING: All log messages before absl::InitializeLog"
)
_CONTINUED = re.compile(rb"[ \t:]|\[\[")  # how further lines of such a message begin
_MOST_UNKEPT = 100  # lines that no file has
# TensorFlow's messages quote names of files, which may hold what tells a terminal something.
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_SECONDS_TO_END = 2.0  # for the other process, when all has been written


class LibraryMessages:
    """Shares with the other process the first error of writing to stderr, how the program ended, and a path."""

    _MOST = 4096  # bytes of a path

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 3 + self._MOST)

    @property
    def error(self) -> int:
        """The number of the first error of writing to stderr, 0 without any."""
        return self._shared[0]

    @error.setter
    def error(self, number: int) -> None:
        self._shared[0] = number

    @property
    def is_well(self) -> bool:
        """Whether the program has said that it ended as it should."""
        return bool(self._shared[1])

    @is_well.setter
    def is_well(self, value: bool) -> None:
        self._shared[1] = value

    @property
    def has_ended(self) -> bool:
        """Whether Python has ended the program, by an error too: neither a library nor the system has."""
        return bool(self._shared[2])

    @has_ended.setter
    def has_ended(self, value: bool) -> None:
        self._shared[2] = value

    @property
    def path(self) -> bytes:
        """The file for TensorFlow's messages; empty: there is none."""
        return self._shared[3:].rstrip(b"\0")

    @path.setter
    def path(self, path: bytes) -> None:
        if len(path) < self._MOST:
            self._shared[3:] = path.ljust(self._MOST, b"\0")


_messages: LibraryMessages | None = None


def keep_in(path: str) -> None:
    """Sends TensorFlow's messages to a local file from here on, which is made when there are any. "-": to stderr."""
    if _messages:
        _messages.path = os.fsencode(path if path == "-" else os.path.abspath(path))


@contextlib.contextmanager
def without_library_messages() -> Iterator[Callable[[], int]]:
    """Keeps the libraries' lines from stderr in this context.

    Yields a function that returns the number of the first error of writing to stderr, 0 without any: the writing end of
    a pipe knows nothing of what is behind it.
    It forks, and so does nothing where TensorFlow has been imported, which has threads.
    """
    global _messages  # noqa: PLW0603 - there is one stderr
    if "tensorflow" in sys.modules:
        yield int
        return
    try:
        stderr = os.dup(2)
    except OSError:  # there is none
        yield int
        return
    messages = LibraryMessages()
    sys.stderr.flush()
    read_end, write_end = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.close(write_end)
            _Forwarder(stderr, messages).forward(read_end)
        finally:
            os._exit(0)
    os.close(read_end)
    os.dup2(write_end, 2)
    os.close(write_end)
    _messages = messages
    try:
        yield lambda: messages.error
        messages.is_well = True
    except SystemExit:  # the program has said why
        messages.is_well = True
        raise
    finally:
        messages.has_ended = True
        _messages = None
        sys.stderr.flush()
        os.dup2(stderr, 2)  # the last writing end, unless a child process has one
        os.close(stderr)
        deadline = time.monotonic() + _SECONDS_TO_END
        while not os.waitpid(process, os.WNOHANG)[0] and time.monotonic() < deadline:
            time.sleep(0.001)


class _Forwarder:
    """The other process: copies lines to stderr, without those that are dropped or kept in a file."""

    def __init__(self, target: int, messages: LibraryMessages) -> None:
        self._target, self._messages = target, messages
        self._unkept: deque[bytes] = deque(maxlen=_MOST_UNKEPT)
        self._last: deque[bytes] = deque(maxlen=_MOST_UNKEPT)
        self._in_message = False

    def forward(self, source: int) -> None:
        """Copies from a descriptor until it is at its end."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):  # the program has more to say
            signal.signal(number, signal.SIG_IGN)
        for descriptor in (0, 1):  # who waits for the program's end waits for the end of its output
            os.close(descriptor)
        rest = b""
        while content := os.read(source, 1 << 16):
            *lines, rest = (rest + content).split(b"\n")
            self._last.extend(lines)
            self._write(b"".join(line + b"\n" for line in lines if self._is_shown(line)))
            self._keep()
        if not self._messages.is_well:
            self._write(b"".join(line + b"\n" for line in self._unkept))
        self._write(rest)
        if not self._messages.has_ended:
            self._explain(b"\n".join([*self._last, rest]))

    def _is_shown(self, line: bytes) -> bool:
        if _DROPPED.match(line):
            self._in_message = False
            return False
        self._in_message = bool(_KEPT.match(line)) or (self._in_message and bool(_CONTINUED.match(line)))
        if self._in_message and self._messages.path != b"-":
            self._unkept.append(line)
            return False
        return True

    def _explain(self, last_words: bytes) -> None:
        """Writes the cause of an end by a library's abort, and a command, where its last words are known."""
        if text := explanation(last_words.decode(errors="replace")):
            self._write(f"\nerror: {text}\n".encode())

    def _keep(self) -> None:
        """Moves lines to the file, if there is one and it can be written."""
        path = self._messages.path
        if not self._unkept or path in (b"", b"-"):
            return
        with contextlib.suppress(OSError), open(path, "ab") as file:
            file.write(b"".join(line + b"\n" for line in self._unkept))
            self._unkept.clear()

    def _write(self, content: bytes) -> None:
        content = _CONTROL.sub(_escape, content)
        try:
            while content:
                try:
                    content = content[os.write(self._target, content) :]
                except BlockingIOError:  # a program that shares it has made it non-blocking
                    select.select((), (self._target,), ())
        except OSError as error:  # a terminal that is gone; the program must not wait for it
            self._messages.error = self._messages.error or error.errno or errno.EIO


def _escape(match: re.Match[bytes]) -> bytes:
    return b"\\x%02x" % match[0][0]
