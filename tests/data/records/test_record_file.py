"""Compressed files are recognised by their bytes, and plain ones are never taken for them."""

import gzip
import struct
import zlib

import pytest

KINDS = ("", "GZIP", "ZLIB")


@pytest.fixture(scope="module")
def record_file(tf):
    from efficientnet_tpu.data.records import record_file

    return record_file


def write(tf, path, records, kind=""):
    with tf.io.TFRecordWriter(str(path), kind) as writer:
        for record in records:
            writer.write(record)
    return str(path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_tensorflow_writes(tf, record_file, tmp_path, kind):
    path = write(tf, tmp_path / "shard", [b"one", b"three"], kind)
    assert record_file.compression_of(path) == kind
    assert record_file.first_record(path) == b"one"
    assert record_file.readable_records(path)[0] == 2


@pytest.mark.parametrize("level", [1, 9])
@pytest.mark.parametrize(("compress", "kind"), [(gzip.compress, "GZIP"), (zlib.compress, "ZLIB")])
def test_what_other_programs_have_compressed(tf, record_file, tmp_path, compress, kind, level):
    path = write(tf, tmp_path / "shard", [b"one", b"three"])
    (tmp_path / "shard").write_bytes(compress((tmp_path / "shard").read_bytes(), level))
    assert record_file.compression_of(path) == kind
    assert record_file.first_record(path) == b"one"


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08\x00", b"\x78\x9c\x00\x00", b"\x78\x01\x00\x00"])
def test_a_plain_record_whose_length_looks_like_compression(tf, record_file, tmp_path, start):
    (length,) = struct.unpack("<I", start)
    path = write(tf, tmp_path / "shard", [bytes(length)])
    assert (tmp_path / "shard").read_bytes()[:4] == start
    assert record_file.compression_of(path) == ""


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b", b"\x1f\x8b\x08\x00no gzip", gzip.compress(b"no record", mtime=0), b"x" * 99]
)
def test_other_files_are_as_they_are(tf, record_file, tmp_path, content):
    (tmp_path / "shard").write_bytes(content)
    assert record_file.compression_of(str(tmp_path / "shard")) == ""
    assert record_file.first_record(str(tmp_path / "shard")) is None


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
def test_a_compressed_file_that_is_cut_off(tf, record_file, tmp_path, kind):
    path = write(tf, tmp_path / kind, [bytes(range(256)) * 40 + str(index).encode() for index in range(20)], kind)
    content = (tmp_path / kind).read_bytes()
    (tmp_path / kind).write_bytes(content[: len(content) // 2])
    readable, reason = record_file.readable_records(path)
    assert readable < 20
    assert "is cut off" in reason or "wrong checksum" in reason
