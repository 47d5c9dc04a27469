"""Files that grow: FILE.partial until they are whole."""

import fcntl
import os

import numpy as np
import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage.growing.npy_file import NpyWriter
from efficientnet_tpu.storage.growing.partial_file import partial_file


def write(path, flag):
    with partial_file(path, flag) as file:
        file.write(b"one")


def test_what_is_written_shows_as_it_comes_and_has_its_name_at_the_end(tmp_path):
    path = tmp_path / "found.csv"
    path.write_text("of before")
    with partial_file(str(path), "output") as file:
        file.write(b"one\n")
        assert (tmp_path / "found.csv.partial").read_bytes() == b"one\n"
        assert path.read_text() == "of before"
        file.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    assert os.listdir(tmp_path) == ["found.csv"]


@pytest.mark.parametrize(("content", "left"), [(b"", []), (b"one\n", ["x.csv.partial"])])
def test_an_error_leaves_what_there_is_under_the_other_name(tmp_path, content, left):
    def interrupted():
        with partial_file(f"{tmp_path}/x.csv", "output") as file:
            file.write(content)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == left
    with partial_file(f"{tmp_path}/x.csv", "output") as file:  # begun anew
        file.write(b"2")
    assert (tmp_path / "x.csv").read_bytes() == b"2"


def test_two_processes_do_not_write_one_file(tmp_path):
    partial = tmp_path / "x.csv.partial"
    partial.write_text("theirs")
    with open(partial) as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"--output=.*x\.csv: another process is writing it"):
            write(f"{tmp_path}/x.csv", "output")
    assert partial.read_text() == "theirs"


def test_a_full_disk_is_one_line(tmp_path):
    os.symlink("/dev/full", tmp_path / "x.csv.partial")
    with pytest.raises(UserError, match=r"--output=.*x\.csv: cannot be written: No space left"):
        write(f"{tmp_path}/x.csv", "output")


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"--embeddings=.*none/x\.npy: cannot be written: No such file"):
        write(f"{tmp_path}/none/x.npy", "embeddings")


def test_a_remote_file_appears_when_it_is_whole(tf):
    with partial_file("ram://partial/x.npy", "embeddings") as file:
        file.write(b"content")
        assert not tf.io.gfile.exists("ram://partial/x.npy")
    with tf.io.gfile.GFile("ram://partial/x.npy", "rb") as written:
        assert written.read() == b"content"


@pytest.mark.parametrize("sizes", [[1], [3, 1, 40], [1] * 11])
def test_an_array_in_pieces_is_an_array_at_any_time(tmp_path, sizes):
    path = tmp_path / "rows.npy"
    rows = np.random.default_rng(0).normal(size=(sum(sizes), 5)).astype(np.float32)
    with open(path, "wb", buffering=0) as file:
        writer, done = NpyWriter(file), 0
        for size in sizes:
            writer.write(rows[done : done + size])
            done += size
            np.testing.assert_array_equal(np.load(path), rows[:done])
    assert np.load(path, mmap_mode="r").shape == rows.shape
    assert path.stat().st_size == 128 + rows.nbytes
