"""Files are whole or not there, and on the disk when they are said to be."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from efficientnet_tpu.storage import atomic_write, durable
from efficientnet_tpu.storage.atomic_write import write_atomically


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = str(tmp_path / "file")
    write_atomically(path, "old")

    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "no space left", "/elsewhere")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left") as error:
        write_atomically(path, "new")
    assert error.value.filename == path  # what the user knows
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt(), SystemExit()], ids=repr)
def test_nothing_is_left_of_a_write_that_is_broken_off(tmp_path, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)):
        write_atomically(str(tmp_path / "file"), "new")
    assert list(tmp_path.iterdir()) == []


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_it_returns(tmp_path, monkeypatch):
    path, calls = str(tmp_path / "file"), []
    monkeypatch.setattr(atomic_write, "sync_file", lambda file: calls.append(("content", Path(file).read_text())))
    monkeypatch.setattr(atomic_write, "sync_directory", lambda folder: calls.append(("names", os.listdir(folder))))
    write_atomically(path, "new")
    assert calls == [("content", "new"), ("names", ["file"])]


def test_a_file_system_that_cannot_flush_is_written_to(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    write_atomically(str(tmp_path / "file"), "new")
    durable.make_directories(f"{tmp_path}/a/b")
    durable.sync_tree(str(tmp_path))
    assert (tmp_path / "file").read_text() == "new"


def test_a_disk_that_fails_to_flush_is_an_error_and_leaves_the_old(tmp_path, monkeypatch):
    path = str(tmp_path / "file")
    write_atomically(path, "old")

    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=f"Input/output error: '{path}'"):
        write_atomically(path, "new")
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["old"]


def test_every_file_of_a_tree_is_flushed_before_its_directory(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    flushed = []
    monkeypatch.setattr(durable, "sync_file", lambda path: flushed.append(os.path.relpath(path, tmp_path)))
    durable.sync_tree(str(tmp_path))
    assert flushed == ["a/file", "a", "."]
    flushed.clear()
    durable.make_directories(f"{tmp_path}/b/c")
    assert flushed == [".", "b"]
    durable.sync_tree("gs://bucket/a")
    durable.sync_file("gs://bucket/a")


KILLED = """
import os, signal, sys
from efficientnet_tpu.storage import atomic_write
atomic_write.sync_file = lambda path: os.kill(os.getpid(), signal.SIGKILL)
atomic_write.write_atomically(sys.argv[1], "half")
"""


def test_what_a_killed_writer_leaves_goes_with_the_next_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    of_the_living = f"file.{os.getppid()}.tmp"
    others = {of_the_living, "file.tmp", "file.old.tmp", f"other{left.name}"}
    for name in others:
        (tmp_path / name).write_text("")
    write_atomically(str(path), "new")
    assert {entry.name for entry in tmp_path.iterdir()} == others | {"file"}
