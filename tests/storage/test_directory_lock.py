"""One training at a time in a model_dir, and none locked out by the dead."""

import json
import re
import subprocess
import sys
import threading

import pytest

from efficientnet_tpu.errors import UserError


@pytest.fixture(scope="module")
def lock(tf):
    from efficientnet_tpu.storage import directory_lock

    return directory_lock


# Does what `directory_lock` does on a local disk, without the seconds TensorFlow takes to start.
HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
file.write('{"host": "there", "process": 7, "started": "then"}')
file.flush()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "training.lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_directory_in_use_is_refused_and_its_holder_named(lock, holder, tmp_path):
    for _ in range(2):  # being refused leaves the lock as it was
        with pytest.raises(UserError, match=r"another training is at work there \(process 7 on there, started then\)"):
            lock.held(str(tmp_path)).__enter__()


def test_who_was_killed_holds_nothing(lock, holder, tmp_path):
    holder.kill()
    holder.wait()
    with lock.held(str(tmp_path)):
        assert (tmp_path / "training.lock").exists()


def test_it_can_be_held_again_and_leaves_nothing(lock, tmp_path):
    for _ in range(2):
        with lock.held(str(tmp_path / "new")):
            described = json.loads((tmp_path / "new" / "training.lock").read_text())
            assert described.keys() == {"host", "process", "started"}
        assert list((tmp_path / "new").iterdir()) == []


def test_a_directory_that_must_not_exist_is_held_by_a_file_beside_it(lock, tmp_path):
    path = str(tmp_path / "out")
    with lock.held(path, "output_dir", "conversion", lock_file=f"{path}.lock"):
        assert [entry.name for entry in tmp_path.iterdir()] == ["out.lock"]
        again = lock.held(path, "output_dir", "conversion", lock_file=f"{path}.lock")
        with pytest.raises(UserError, match=f"--output_dir={path}: another conversion is at work there"):
            again.__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_removed_while_it_was_being_opened_is_not_taken_for_held(lock, tmp_path, monkeypatch):
    path = tmp_path / "training.lock"
    flock, removed = lock.fcntl.flock, []

    def remove_first(file, how):
        if not removed:
            path.unlink()
            removed.append(True)
        return flock(file, how)

    monkeypatch.setattr(lock.fcntl, "flock", remove_first)
    with lock.held(str(tmp_path)), pytest.raises(UserError), lock.held(str(tmp_path)):
        pass
    assert removed


def test_a_vanished_directory_does_not_hide_what_went_wrong(lock, tmp_path):
    def vanish():
        (tmp_path / "run" / "training.lock").unlink()
        (tmp_path / "run").rmdir()
        raise KeyError("the reason")

    with pytest.raises(KeyError, match="the reason"), lock.held(str(tmp_path / "run")):
        vanish()


@pytest.fixture
def quick(lock, monkeypatch):
    """Locks in object stores, in a hurry."""
    monkeypatch.setattr(lock, "BEAT", 0.05)
    monkeypatch.setattr(lock, "DEAD_AFTER", 0.5)
    return lock


def test_in_an_object_store_a_living_holder_is_noticed(tf, quick, capsys):
    second = quick.held("ram://one/run")
    with quick.held("ram://one/run"):
        with pytest.raises(UserError) as error:
            second.__enter__()
        assert tf.io.gfile.exists("ram://one/run/training.lock")
    assert re.search(r"another training is at work there \(process \d+ on .*, started ", str(error.value))
    assert not tf.io.gfile.exists("ram://one/run/training.lock")
    assert "looking for 0 s whether its training still runs" in capsys.readouterr().out


def test_in_an_object_store_a_dead_holder_is_replaced(tf, quick):
    tf.io.gfile.makedirs("ram://two/run")
    with tf.io.gfile.GFile("ram://two/run/training.lock", "w") as file:
        file.write('{"host": "there", "process": 7, "started": "then"} token 3')
    with quick.held("ram://two/run"), tf.io.gfile.GFile("ram://two/run/training.lock") as file:
        assert "token 3" not in file.read()
    assert not any(thread.name == "directory lock" for thread in threading.enumerate())


def test_where_the_file_system_knows_no_locks_the_count_does_it(quick, tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(quick.errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(quick.fcntl, "flock", flock)
    with quick.held(str(tmp_path)), pytest.raises(UserError, match="another training"):
        quick.held(str(tmp_path)).__enter__()
