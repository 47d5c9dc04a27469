"""Pipes, devices, sockets and what the system makes up are known without being opened."""

import os
import socket

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.regular_file import irregular_kind, require_regular
from efficientnet_tpu.storage.text_file import LARGEST, read_text


@pytest.fixture
def paths(tmp_path):
    """Kind -> paths of it; "" for files, folders, and where nothing is."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("text")
    for name, target in (("to_pipe", "pipe"), ("to_file", "file"), ("to_proc", "/proc/self/status"), ("gone", "none")):
        (tmp_path / name).symlink_to(target)
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "socket"))
        yield {
            "named pipe": [tmp_path / "pipe", tmp_path / "to_pipe"],
            "device": ["/dev/zero", "/dev/null"],
            "socket": [tmp_path / "socket"],
            "file that the system makes up": ["/proc/self/status", tmp_path / "to_proc"],
            "": [tmp_path, tmp_path / "file", tmp_path / "to_file", tmp_path / "gone", "a\0b", "gs://bucket/file"],
        }


def test_kinds(paths):
    assert {kind: {irregular_kind(str(path)) for path in found} for kind, found in paths.items()} == {
        kind: {kind} for kind in paths
    }


def test_what_is_no_regular_file_or_too_large_is_refused(paths, tmp_path):
    for kind in filter(None, paths):
        for path in map(str, paths[kind]):
            with pytest.raises(UserError, match=f"^--labels={path}: is a {kind}, which is not opened"):
                read_text(path, f"--labels={path}")
    os.truncate(tmp_path / "file", LARGEST + 1)  # no disk is taken for it
    with pytest.raises(UserError, match=f"^--labels=x: has {LARGEST + 1:,} bytes; at most {LARGEST:,} are read"):
        read_text(str(tmp_path / "file"), "--labels=x")
    require_regular(str(tmp_path / "file"), "--labels=x", LARGEST + 1)
