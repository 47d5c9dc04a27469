"""Image files as people name them: their content, and why one cannot be read, in plain words."""

import re

import tensorflow as tf

from efficientnet_tpu.data.decoding import image_format, webp
from efficientnet_tpu.data.decoding.image_file import refused_kind
from efficientnet_tpu.data.decoding.image_header import READABLE, Header, read_header, with_article
from efficientnet_tpu.data.decoding.jpeg import MOST_SCANNED_PIXELS, START_OF_SCAN

# `Split.load` raises these. TensorFlow's Python cannot decode a message that quotes a damaged record.
LOAD_ERRORS = (tf.errors.OpError, UnicodeDecodeError)
_SHOWN_BYTES = 16


def unreadable_reason(encoded: bytes) -> str:
    """Returns why the content of an image file cannot be decoded; an empty string if it can be.

    'empty file', 'truncated JPEG', 'not an image: starts with b"<!DOCTYPE html>"', 'claims 60000 x 60000 pixels'.
    """
    header = read_header(encoded)
    return _fault_of_header(encoded, header) or _fault_of_pixels(encoded, header)


def _fault_of_header(encoded: bytes, header: Header) -> str:
    """Returns why a file cannot be decoded, as far as that shows without decoding it; else an empty string."""
    if header.format not in READABLE:
        return _describe_other_format(encoded, header.format)
    num_pixels, size = header.width * header.height, f"{header.width} x {header.height} pixels"
    if num_pixels > image_format.MAX_PIXELS:
        return f"claims {size}"
    if header.format == "JPEG" and encoded.count(START_OF_SCAN) * num_pixels > MOST_SCANNED_PIXELS:
        return f"takes too long: {encoded.count(START_OF_SCAN):,} scans of {size}"
    obstacle = header.obstacle
    if header.format == "WebP" and not webp.HAS_DECODER:
        obstacle = f"{tf.__version__} reads none, 2.20 does"
    return f"{header.format} of a kind that TensorFlow does not read: {obstacle}" if obstacle else ""


def _fault_of_pixels(encoded: bytes, header: Header) -> str:
    """Decodes a file, and returns what hinders it; else an empty string."""
    try:
        image_format.decode(tf.constant(encoded), image_format.AS_STORED)
    except tf.errors.OpError:  # its message names operations and is the same for every defect of a JPEG
        return f"{'damaged' if header.is_complete else 'truncated'} {header.format}"
    return ""


def read_image_file(path: str, decodes: bool = True) -> tuple[bytes, str]:
    """Returns the content of a file, local or remote, and why it cannot be decoded; an empty string if it can be.

    What is no regular file, or larger than any image, is not opened. decodes: False, where the caller decodes the file
    anyway: then only one whose end is missing is decoded here, and the others' headers are looked at.
    """
    if kind := refused_kind(path):
        return b"", f"is a {kind}, which is not opened"
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
    except tf.errors.NotFoundError:
        return b"", "no such file"
    except tf.errors.OpError as error:
        return b"", error.message
    if decodes:
        return content, unreadable_reason(content)
    header = read_header(content)
    reason = _fault_of_header(content, header)
    return content, reason if reason or header.is_complete else _fault_of_pixels(content, header)


def load_error_reason(error: Exception) -> str:
    """Returns why `Split.load` failed: TensorFlow's message without the names of operations."""
    if isinstance(error, UnicodeDecodeError):
        return "damaged record"
    message = (error.message if isinstance(error, tf.errors.OpError) else str(error)).partition("\n")[0]
    message = re.sub(r"\{\{.*?\}\} ?| ?\[Op:\w+\].*|assertion failed: ", "", message)
    return f"cannot be had: {message.strip('[] ')}"


def _describe_other_format(encoded: bytes, name: str) -> str:
    """Describes a file that is none of READABLE; name: its format, empty if unknown."""
    if not encoded:
        return "empty file"
    if not encoded.strip(b"\0"):
        return "nothing but zero bytes"
    if name == "Git LFS pointer":
        return "a Git LFS pointer in place of the file; `git lfs pull` gets it"
    if name:
        return f"{with_article(name)} file; JPEG, PNG, GIF, BMP and WebP can be read"
    return f"not an image: starts with {encoded[:_SHOWN_BYTES]!r}"
