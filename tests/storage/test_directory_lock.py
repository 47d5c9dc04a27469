"""One training at a time in a model_dir, and none locked out by the dead."""

import errno
import json
import re
import shutil
import subprocess
import sys
import threading
import time

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
            assert described.keys() == {"host", "process", "started", "token"}
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


def _no_locks(file, how):
    raise OSError(errno.ENOTSUP, "Operation not supported")


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
    monkeypatch.setattr(quick.fcntl, "flock", _no_locks)
    with quick.held(str(tmp_path)), pytest.raises(UserError, match="another training"):
        quick.held(str(tmp_path)).__enter__()


def _remove(run):
    shutil.rmtree(run)


def _replace(run):
    """Another training has begun in a directory of the same name."""
    shutil.rmtree(run)
    run.mkdir()
    (run / "training.lock").write_text('{"host": "there", "process": 7, "started": "then", "token": "theirs"}')


def _move_and_replace(run):
    run.rename(run.with_name("elsewhere"))
    run.mkdir()
    (run / "training.lock").write_text('{"host": "there", "process": 7, "started": "then", "token": "theirs"}')


@pytest.mark.parametrize("kind", ["local", "counting"])
@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (_remove, "was removed"),
        (_replace, r"was replaced, and is now used by process 7 on there, started then,"),
        (_move_and_replace, r"was replaced, and is now used by process 7 on there, started then,"),
    ],
)
def test_a_directory_that_is_no_longer_ours_is_not_written(quick, tmp_path, monkeypatch, happens, said, kind):
    if kind == "counting":
        monkeypatch.setattr(quick.fcntl, "flock", _no_locks)
        if happens is _remove:  # a lock that cannot tell removed from unmounted
            (tmp_path / "run" / "more").mkdir(parents=True)
            happens = lambda run: (run / "training.lock").unlink()  # noqa: E731
    run = tmp_path / "run"
    with quick.held(str(run)):
        quick.require_ours(f"{run}/")
        quick.require_ours(f"{run}-other")
        happens(run)
        before = {path.name: path.read_text() for path in run.rglob("*") if path.is_file()} if run.exists() else None
        with pytest.raises(UserError, match=f"--model_dir={run}: {said} while this training was at work there"):
            quick.require_ours(str(run))
        time.sleep(0.2)  # some beats
    after = {path.name: path.read_text() for path in run.rglob("*") if path.is_file()} if run.exists() else None
    assert after == before  # the other's lock stays
    quick.require_ours(str(run))  # nothing is held any more


def test_a_directory_out_of_reach_is_ours_again_when_it_comes_back(lock, tmp_path):
    """A disk that was unmounted: the files that come back are others to the system, with what was written in them."""
    run, away = tmp_path / "run", tmp_path / "away"
    with lock.held(str(run)):
        run.rename(away)
        with pytest.raises(FileNotFoundError, match="the directory has vanished"):
            lock.require_ours(str(run))
        shutil.copytree(away, run)
        lock.require_ours(str(run))
        with pytest.raises(UserError, match="another training is at work there"):  # it is locked anew
            lock.held(str(run)).__enter__()
    assert list(run.iterdir()) == []


def test_who_waits_for_a_directory_is_told_by_whom_it_is_held(lock, holder, tmp_path, capsys):
    threading.Timer(1.0, holder.kill).start()
    lock.wait_until_free(str(tmp_path), lambda: False)
    assert holder.wait() == -9
    assert capsys.readouterr().out == f"{tmp_path}: waiting for process 7 on there, started then to save and end\n"
    lock.wait_until_free(str(tmp_path / "none"), lambda: False)


def test_who_is_told_to_stop_waits_no_longer(lock, holder, tmp_path):
    lock.wait_until_free(str(tmp_path), lambda: True)
    assert holder.poll() is None
