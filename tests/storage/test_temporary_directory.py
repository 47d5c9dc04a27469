"""Directories for temporary files go with their process, or with the next one."""

import os
import re
import signal
import subprocess
import sys
import tempfile

from efficientnet_tpu.storage.temporary_directory import (
    own_temporary_files,
    temporary_directory,
    users_temporary_place,
)

KILLED = """
import os, signal, tempfile
from efficientnet_tpu.storage.temporary_directory import temporary_directory
with temporary_directory() as directory:
    open(f"{tempfile.mkdtemp()}/file", "w").close()  # a library's
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_goes_with_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    others = {f"efficientnet_tpu-{os.getppid()}-abc", "efficientnet_tpu-mine", "tmpabc"}  # the first is of a living one
    for name in others:
        (tmp_path / name).mkdir()
    with temporary_directory() as one, temporary_directory() as inner:
        assert {path.name for path in tmp_path.iterdir()} == others | {os.path.basename(one)}
        assert os.path.dirname(inner) == one
    assert tempfile.tempdir == str(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == others


def test_the_program_puts_the_files_of_libraries_into_a_directory_of_its_own(tmp_path, monkeypatch):
    from efficientnet_tpu import cli

    found = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cli, "main", lambda argv: found.append((tempfile.mkdtemp(), users_temporary_place())))
    cli.run(["main.py"])
    [(directory, users_place)] = found
    assert re.fullmatch(rf"{tmp_path}/efficientnet_tpu-{os.getpid()}-\w+/tmp\w+", directory)
    assert users_place == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_place_for_temporary_files_there_are_none(monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: (_ for _ in ()).throw(FileNotFoundError("in ['/nowhere']")))
    with own_temporary_files():
        pass
