"""The directory of --cache is ours or is refused; what is written there is whole, whoever is killed."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from efficientnet_tpu.data.cache import cache_place
from efficientnet_tpu.errors import UserError

KEY = "0123456789abcdef" * 2


def test_a_new_an_empty_and_a_filled_cache_are_ours(tmp_path):
    for place in (tmp_path / "new", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        cache_place.make(str(place))
        assert cache_place.is_ours(str(place))
        (place / "training-224-0").mkdir()
        cache_place.make(str(place))
    cache_place.require_ours("memory")
    cache_place.require_ours("")


def _with_photo(path):
    path.mkdir()
    (path / "photo.jpg").touch()
    return path


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (lambda path: _with_photo(path / "photos"), "has other things in it, photo.jpg for one"),
        (lambda path: (path / "file").write_text("x") and path / "file", "is no directory"),
        (lambda path: "gs://bucket/cache", "must be memory or a directory of this machine"),
        (lambda path: path / "run[1]", "has one of * ? [ \\, which TensorFlow takes for a pattern"),
        (lambda path: path / "data" / "cache", "lies in --data_dir="),
    ],
)
def test_other_places_are_refused(tmp_path, place, words):
    (tmp_path / "data").mkdir()
    place = str(place(tmp_path))
    with pytest.raises(UserError, match=rf"^--cache={re.escape(place)}: {re.escape(words)}"):
        cache_place.require_ours(place, str(tmp_path / "data"))


def test_entries_are_found_and_what_the_dead_have_left_is_removed(tmp_path):
    path = cache_place.write_entry(str(tmp_path), KEY, "1" * 19, b"content")
    dead = subprocess.Popen(["true"])
    dead.wait()
    left, busy = (tmp_path / "01" / f"{KEY}.{process}-1.tmp" for process in (dead.pid, os.getpid()))
    left.touch()
    busy.touch()
    (tmp_path / "01" / "foreign").touch()
    assert cache_place.entries(str(tmp_path)) == {KEY: path}
    assert (left.exists(), busy.exists()) == (False, True)
    assert cache_place.find_entry(str(tmp_path), KEY) == path
    assert cache_place.find_entry(str(tmp_path), "f" * 32) is None
    assert cache_place.entries(str(tmp_path / "none")) == {}


def test_a_writer_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_place.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        cache_place.write_entry(str(tmp_path), KEY, "1" * 19, b"content")
    assert os.listdir(tmp_path / "01") == []


def test_several_write_and_read_one_entry_at_a_time(tmp_path):
    content = os.urandom(200_000)
    found = []

    def write():
        for _ in range(20):
            path = cache_place.write_entry(str(tmp_path), KEY, "1" * 19, content)
            with open(path, "rb") as file:
                found.append(file.read() == content)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80
    assert os.listdir(tmp_path / "01") == [f"{KEY}-{'1' * 19}"]


@pytest.mark.slow
def test_under_its_name_a_file_is_whole_whenever_its_writer_is_killed(tmp_path):
    code = (
        "import sys; from efficientnet_tpu.data.cache.cache_place import write_entry\n"
        "for number in range(10**9): write_entry(sys.argv[1], f'{number % 50:032x}', '1' * 19, b'x' * 3_000_000)"
    )
    for attempt in range(6):
        writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
        while not os.path.isdir(tmp_path / "00"):
            time.sleep(0.01)
        time.sleep(0.05 * (attempt + 1))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        entries = cache_place.entries(str(tmp_path))
        assert entries
        assert {os.path.getsize(path) for path in entries.values()} == {3_000_000}
        assert len(os.listdir(tmp_path / "00")) == len(entries)  # nothing unfinished is left
