"""Directories for temporary files go with their process, or with the next one."""

import os
import signal
import subprocess
import sys
import tempfile

from efficientnet_tpu.storage.temporary_directory import temporary_directory

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
