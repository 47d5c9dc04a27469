"""Text files as people's programs write them: a byte order mark is no part of the text, nor are Windows' line ends."""

import codecs
import os

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.regular_file import require_regular

BYTE_ORDER_MARK = "\ufeff"
LARGEST = 64 << 20  # bytes of a text, but for a list of images
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: str, named: str, most_bytes: int = LARGEST) -> str:
    """Returns the text of a file, local or gs://, with \\n at the ends of lines.

    named: how messages begin, "--labels=names.txt" say. Raises UserError when the file cannot be read, is larger than
    `most_bytes`, or is not UTF-8.
    """
    return decode(read_bytes(path, named, most_bytes), named)


def decode(content: bytes, named: str) -> str:
    """Returns bytes as text. Raises UserError when they are not UTF-8, or no text."""
    if content.startswith(_UTF_16):
        raise UserError(f"{named}: is UTF-16, as Excel's Unicode text is. Save it as UTF-8 (in Excel: CSV UTF-8).")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = _around(content, error.start)
        raise UserError(f"{named}: line {line} is not UTF-8: {found}. Save the file as that.") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{named}: line {line} holds the sign \\x00: it is no text file, or not UTF-8.")
    return without_mark(text).replace("\r\n", "\n")


def without_mark(text: str) -> str:
    """Returns a text without the byte order mark at its beginning."""
    return text.removeprefix(BYTE_ORDER_MARK)


def read_bytes(path: str, named: str, most_bytes: int = LARGEST) -> bytes:
    """Returns a file's bytes. Raises UserError when it cannot be read, or is larger than `most_bytes`. A local file
    needs no TensorFlow.
    """
    if "://" not in path:
        path = os.path.expanduser(path)
        require_regular(path, named, most_bytes)
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise UserError(f"{named}: cannot be read: {error.strerror}") from error
    from efficientnet_tpu.hardware import tensorflow_startup

    tensorflow_startup.import_tensorflow()
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise UserError(f"{named}: cannot be read: {error.message}") from error


def _around(content: bytes, position: int) -> str:
    """Returns the bytes of one line around a position, as Python writes them."""
    begin = content.rfind(b"\n", 0, position) + 1
    return repr(content[max(begin, position - 20) : position + 10].split(b"\n")[0])
