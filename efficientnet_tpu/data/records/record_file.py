"""A TFRecord file, of whichever compression: told by its first bytes, never by its name."""

import functools
import zlib

import tensorflow as tf

from efficientnet_tpu.data.records.crc32c import crc32c, unmasked

RECORD_OVERHEAD = 16  # bytes: its length and two checksums
_LENGTH, _HEADER = 8, 12  # bytes of a record's length, and of the length with its checksum
_HEAD = 512  # bytes that a compressed header takes at most, with names and comments that gzip may put before
_GZIP = b"\x1f\x8b"
_GZIP_OR_ZLIB = 47  # zlib's word for: tell by the first bytes which of the two it is


def compression_of(path: str) -> str:
    """Returns how a file is compressed, in TensorFlow's words: GZIP, ZLIB or "". Of a damaged file, "".

    Raises tf.errors.OpError when the file cannot be read.
    """
    with tf.io.gfile.GFile(path, "rb") as file:
        head = file.read(_HEAD)
    # The length of a plain record may begin with the same bytes as a compressed file: its checksum decides.
    if not _is_header(head):
        inflated = _inflated(head)
        if _is_header(inflated):
            return "GZIP" if head.startswith(_GZIP) else "ZLIB"
    return ""


def _is_header(head: bytes) -> bool:
    """Tells whether a TFRecord file may begin so: with a length and its checksum."""
    return len(head) >= _HEADER and unmasked(head[_LENGTH:_HEADER]) == crc32c(head[:_LENGTH])


def _inflated(head: bytes) -> bytes:
    """Returns the first bytes of what is compressed, b"" where nothing is."""
    try:
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(head, _HEADER)
    except zlib.error:
        return b""


def first_record(path: str) -> bytes | None:
    """Returns the first record of a file, None of an empty or a damaged one."""
    try:
        for record in tf.data.TFRecordDataset(path, compression_of(path)).take(1):
            return record.numpy()
    except tf.errors.DataLossError:  # counting says where
        pass
    return None


@functools.lru_cache(maxsize=1024)
def readable_records(path: str) -> tuple[int, str]:
    """Counts the records of a TFRecord file that can be read. Returns also why not more, with the offset in bytes."""
    count, offset = 0, 0
    try:
        compression = compression_of(path)
        for record in tf.data.TFRecordDataset(path, compression):
            count += 1
            offset += len(record.numpy()) + RECORD_OVERHEAD
        size = offset if compression else tf.io.gfile.stat(path).length
    except tf.errors.DataLossError as error:
        kind = "is cut off inside of" if "truncated" in error.message else "has a wrong checksum in"
        return count, f"the file {kind} record {count}, at byte {offset:,}"
    except tf.errors.OpError as error:
        return count, f"the file cannot be read: {error.message}"
    if size > offset:
        return count, f"the file is cut off inside of record {count}, at byte {offset:,}"
    return count, f"the file ends after {count} records, at byte {offset:,}"
