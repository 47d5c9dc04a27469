"""Lines that image decoders write to stderr about damaged files: without the file's name, so that nobody can use them;
and the greeting of TensorFlow Lite.

The program names such files itself. libjpeg and TensorFlow write past Python, from any thread, and no setting silences
them alone. So stderr passes through another process, which leaves them out. A thread of this one would lose the last
words of TensorFlow when it aborts.
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
from collections.abc import Callable, Iterator

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
_LEFT_OUT = re.compile(rb"(%s|%s|%s)" % (_OF_TENSORFLOW, _OF_LIBJPEG, _OF_TENSORFLOW_LITE))
# TensorFlow's messages quote names of files, which may hold what tells a terminal something.
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_SECONDS_TO_END = 2.0  # for the other process, when all has been written


@contextlib.contextmanager
def without_decoder_messages() -> Iterator[Callable[[], int]]:
    """Keeps the decoders' lines from stderr in this context.

    Yields a function that returns the number of the first error of writing to stderr, 0 without any: the writing end of
    a pipe knows nothing of what is behind it.
    It forks, and so does nothing where TensorFlow has been imported, which has threads.
    """
    if "tensorflow" in sys.modules:
        yield int
        return
    try:
        stderr = os.dup(2)
    except OSError:  # there is none
        yield int
        return
    failure = mmap.mmap(-1, 1)  # a byte that both processes see
    sys.stderr.flush()
    read_end, write_end = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.close(write_end)
            _forward(read_end, stderr, failure)
        finally:
            os._exit(0)
    os.close(read_end)
    os.dup2(write_end, 2)
    os.close(write_end)
    try:
        yield lambda: failure[0]
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)  # the last writing end, unless a child process has one
        os.close(stderr)
        deadline = time.monotonic() + _SECONDS_TO_END
        while not os.waitpid(process, os.WNOHANG)[0] and time.monotonic() < deadline:
            time.sleep(0.001)


def _forward(source: int, target: int, failure: mmap.mmap) -> None:
    """Copies whole lines from one descriptor to another until the first is at its end, without those left out."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):  # the program has more to say
        signal.signal(number, signal.SIG_IGN)
    for descriptor in (0, 1):  # who waits for the program's end waits for the end of its output
        os.close(descriptor)
    rest = b""
    while content := os.read(source, 1 << 16):
        *lines, rest = (rest + content).split(b"\n")
        kept = b"".join(line + b"\n" for line in lines if not _LEFT_OUT.match(line))
        _write(target, _CONTROL.sub(_escape, kept), failure)
    _write(target, _CONTROL.sub(_escape, rest), failure)


def _escape(match: re.Match[bytes]) -> bytes:
    return b"\\x%02x" % match[0][0]


def _write(target: int, content: bytes, failure: mmap.mmap) -> None:
    try:
        while content:
            try:
                content = content[os.write(target, content) :]
            except BlockingIOError:  # a program that shares it has made it non-blocking
                select.select((), (target,), ())
    except OSError as error:  # a terminal that is gone; the program must not wait for it
        failure[0] = failure[0] or error.errno or errno.EIO
