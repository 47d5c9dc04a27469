"""Pipes, devices, sockets and what the system makes up are known without being opened."""

import os
import socket

import pytest

from efficientnet_tpu.errors import UserError
from efficientnet_tpu.run import run_record
from efficientnet_tpu.storage.regular_file import irregular_kind, require_regular
from efficientnet_tpu.storage.text_file import LARGEST, read_text
from efficientnet_tpu.studies import run_scaling_study, shared_study


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


def _locked(path):
    from efficientnet_tpu.storage import directory_lock

    with directory_lock.held(os.path.dirname(path)):
        pass


def _unreadable(path):
    from efficientnet_tpu.data.unreadable_log import UnreadableImages

    UnreadableImages(os.path.dirname(path), 1.0, 10)


def _journal(path):
    from efficientnet_tpu.data.conversion.conversion_journal import JOURNAL, Journal

    Journal.read(os.path.dirname(path), JOURNAL)


def _restored(path):
    from efficientnet_tpu.run import checkpoint

    checkpoint.newest_whole(os.path.dirname(os.path.dirname(path)), "last")


def _started_from(path):
    from efficientnet_tpu.weights.readers.tf1_reader import checkpoint_prefix

    checkpoint_prefix(os.path.dirname(path))


def _checked_export(path):
    from efficientnet_tpu.exporting import saved_model

    directory = path.partition("/variables")[0]
    with open(f"{directory}/saved_model.pb", "ab"):
        saved_model.check(directory, False)


def _logged(path):
    from efficientnet_tpu.run.reports.run_log import LogFile

    LogFile(path).drop_after(1, 1)


@pytest.mark.parametrize(("name", "read"), [
    ("run.json", lambda path: run_record.load(os.path.dirname(path))), ("log.jsonl", _logged),
    ("training.lock", _locked), ("unreadable_images.jsonl", _unreadable), ("journal.json", _journal),
    ("checkpoints/ckpt-5.index", _restored), ("checkpoints/ckpt-5.data-00000-of-00001", _restored),
    ("checkpoints/ckpt-5.index", _started_from), ("variables/variables.index", _checked_export),
    ("trials.jsonl", lambda path: run_scaling_study.load(os.path.dirname(path))),
    ("study.log", shared_study.open_journal),
])  # fmt: skip
def test_pipes_in_directories_of_ours_are_named_and_never_opened(tf, tmp_path, name, read):
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    if "data" in name:
        (path.parent / "ckpt-5.index").touch()
    os.mkfifo(path)
    with pytest.raises(UserError, match=f"{path.name}.* is a named pipe"):
        read(str(path))
