"""A new directory is whole or not there."""

import os
import signal
import subprocess
import sys

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.storage import presence


@pytest.fixture(scope="module")
def module(tf):
    from efficientnet_tpu.storage import new_directory

    return new_directory


def test_it_appears_when_it_is_complete(module, tmp_path):
    with module.new_directory(f"{tmp_path}/new", "output_dir", "export") as directory:
        (tmp_path / directory / "file").write_text("content")
        assert not (tmp_path / "new").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new" / "file").read_text() == "content"


def test_more_is_added_the_last_names_at_the_end(module, tf, tmp_path, monkeypatch):
    (tmp_path / "there" / "folder").mkdir(parents=True)
    for name in ("folder/old", "kept", "text"):
        (tmp_path / "there" / name).write_text("before")
    moved, rename = [], tf.io.gfile.rename
    monkeypatch.setattr(
        tf.io.gfile, "rename", lambda *paths, **how: moved.append(os.path.basename(paths[1])) or rename(*paths, **how)
    )
    add = module.added_to_directory(f"{tmp_path}/there", "output_dir", "export", last=("sums", "graph"))
    with add as directory:
        for name in ("graph", "sums", "text", "folder/new"):
            path = tmp_path / directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("now")
        assert (tmp_path / "there" / "text").read_text() == "before"
    assert moved[2:] == ["sums", "graph"]
    found = {str(path.relative_to(tmp_path / "there")): path for path in (tmp_path / "there").rglob("*")}
    assert sorted(found) == ["folder", "folder/new", "graph", "kept", "sums", "text"]
    assert (found["text"].read_text(), found["kept"].read_text()) == ("now", "before")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_failure_adds_nothing(module, tmp_path):
    (tmp_path / "there").mkdir()
    with (
        pytest.raises(UserError, match="there: cannot be written"),
        module.added_to_directory(f"{tmp_path}/there", "output_dir", "export", last=()) as directory,
    ):
        os.rename(os.path.join(directory, "gone"), os.path.join(directory, "file"))
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_after_a_failure_nothing_is_there(module, tmp_path):
    with pytest.raises(KeyError, match="reason"), module.new_directory(f"{tmp_path}/new", "output_dir", "export"):
        raise KeyError("reason")
    assert list(tmp_path.iterdir()) == []


def test_one_that_exists_or_cannot_be_made_is_refused(module, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"--output_dir={tmp_path}/file: exists already"):
        presence.check_absent(f"{tmp_path}/file", "output_dir")
    presence.check_absent(f"{tmp_path}/other", "output_dir")
    refused = pytest.raises(UserError, match=f"--output_dir={tmp_path}/file/new: cannot be written")
    with refused, module.new_directory(f"{tmp_path}/file/new", "output_dir", "export"):
        pass


def test_a_full_disk_is_one_line_and_nothing_is_left(module, tf, tmp_path):
    errors = [
        lambda path: tf.errors.ResourceExhaustedError(None, None, f"{path}/a; No space left on device"),
        lambda path: OSError(28, "No space left on device", f"{path}/a"),
    ]
    for make in errors:
        new = module.new_directory(f"{tmp_path}/new", "output_dir", "export")
        with pytest.raises(UserError) as refused, new as path:
            raise make(path)
        said = f"--output_dir={tmp_path}/new: cannot be written: No space left on device."
        assert str(refused.value).startswith(said)
        assert list(tmp_path.iterdir()) == []


def test_an_error_about_something_else_is_not_blamed_on_it(module, tmp_path):
    with pytest.raises(OSError, match="elsewhere"), module.new_directory(f"{tmp_path}/new", "output_dir", "export"):
        raise OSError(28, "No space left on device", "/elsewhere")


KILLED = """
import os, signal, sys
from efficientnet_tpu.hardware.preemption import ended_by_signals
from efficientnet_tpu.storage.new_directory import new_directory
with ended_by_signals(), new_directory(sys.argv[1], "output_dir", "export") as directory:
    open(f"{directory}/half", "w").write("half")
    os.kill(os.getpid(), int(sys.argv[2]))
"""


KILLS = [  # each starts TensorFlow
    pytest.param(signal.SIGTERM, 0, "new", marks=pytest.mark.slow),
    pytest.param(signal.SIGKILL, 2, "new", marks=pytest.mark.slow),
    (signal.SIGKILL, 2, "other"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "left", "name"), KILLS)
def test_what_a_killed_process_leaves_goes_with_the_next(module, tmp_path, capsys, number, left, name):
    command = [sys.executable, "-c", KILLED, f"{tmp_path}/new", str(int(number))]
    subprocess.run(command, stderr=subprocess.DEVNULL, timeout=120, check=False)
    assert not (tmp_path / "new").exists()
    assert len(list(tmp_path.iterdir())) == left
    (tmp_path / "mine.unfinished.tmp").mkdir()  # what is not known for one of ours stays
    (tmp_path / "mine.lock").write_text("")
    with module.new_directory(f"{tmp_path}/{name}", "output_dir", "export") as directory:
        (tmp_path / directory / "file").write_text("content")
    assert {path.name for path in tmp_path.rglob("*")} == {name, "file", "mine.unfinished.tmp", "mine.lock"}
    assert ("new.unfinished.tmp: left by a process that was killed; removed" in capsys.readouterr().out) == (left > 0)


def test_one_that_was_made_meanwhile_is_refused_before_the_work(module, tmp_path):
    (tmp_path / "new").mkdir()
    with pytest.raises(UserError, match="exists already"):
        module.new_directory(f"{tmp_path}/new", "output_dir", "export").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_it_is_on_the_disk_with_all_that_is_in_it_before_it_has_its_name(module, tmp_path, monkeypatch):
    calls = []
    for name in ("sync_tree", "sync_directory"):
        note = lambda path, name=name: calls.append((name, os.path.basename(path), (tmp_path / "new").exists()))  # noqa: E731
        monkeypatch.setattr(module.durable, name, note)
    with module.new_directory(f"{tmp_path}/new", "output_dir", "export"):
        pass
    assert calls == [("sync_tree", "new.unfinished.tmp", False), ("sync_directory", tmp_path.name, True)]


def test_two_at_once_are_refused(module, tmp_path):
    again = pytest.raises(UserError, match=f"--output_dir={tmp_path}/new: another export is at work there")
    with module.new_directory(f"{tmp_path}/new", "output_dir", "export"), again:
        module.new_directory(f"{tmp_path}/new", "output_dir", "export").__enter__()
    assert (tmp_path / "new").is_dir()
