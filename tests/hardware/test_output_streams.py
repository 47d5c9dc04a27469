"""Standard output and error that are closed, full, or read by nobody: the work is done, and the exit status tells."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from efficientnet_tpu.hardware.output_streams import OUTPUT_LOST

ROOT = Path(__file__).parent.parent.parent
REASONS = {
    "closed": "Bad file descriptor",
    "unread": "Broken pipe",
    "full": "No space left on device",
    "terminal": "Input/output error",  # that is gone, of another session: no SIGHUP comes
}
# Prints, and leaves a file that says on which descriptor it was written, and what was lost before.
PROGRAM = """
import sys
from efficientnet_tpu import cli
from efficientnet_tpu.hardware import output_streams
def main(argv):
    if argv[0] == "files":
        output_streams.go_on_without_output()
    for number in range(3):
        print("line", number, flush=True)
        print("line", number, file=sys.stderr)
    with open(argv[1], "w") as file:
        file.write(f"{file.fileno()} {output_streams.lost_output()}")
    print("at the end")
cli.main = main
cli.run(sys.argv[1:])
"""


def run_with(stdout, stderr, *command):
    """Runs a command with each stream as REASONS names it, or "read". Returns its status and what was read of both."""
    terminal, end = os.openpty()
    redirections = {"closed": "{}>&-", "full": "{}>/dev/full", "terminal": "{}>&0"}
    shell = f'exec "$@" {redirections.get(stdout, "").format(1)} {redirections.get(stderr, "").format(2)}'
    process = subprocess.Popen(
        ["sh", "-c", shell, "sh", *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=end, start_new_session=True,
    )  # fmt: skip
    os.close(end)
    os.close(terminal)
    texts = []
    for name, stream in ((stdout, process.stdout), (stderr, process.stderr)):
        if name == "unread":
            stream.close()
    for stream in (process.stdout, process.stderr):
        texts.append("" if stream.closed else stream.read())
        stream.close()
    return process.wait(), *texts


def run_program(how, stdout, stderr, tmp_path):
    return run_with(stdout, stderr, sys.executable, "-c", PROGRAM, how, str(tmp_path / "file"))


@pytest.mark.parametrize("stdout", REASONS)
def test_work_in_files_is_done_without_stdout(tmp_path, stdout):
    status, _, errors = run_program("files", stdout, "read", tmp_path)
    descriptor, lost = (tmp_path / "file").read_text().split(" ", 1)
    assert (status, lost) == (OUTPUT_LOST, str({"stdout": REASONS[stdout]}))
    assert int(descriptor) > 2
    assert errors == "line 0\nline 1\nline 2\n" + (
        f"warning: stdout could not be written: {REASONS[stdout]}. All else was done.\n"
    )


@pytest.mark.parametrize("stdout", REASONS)
def test_output_that_is_the_work_ends_with_its_reader(tmp_path, stdout):
    status, _, errors = run_program("output", stdout, "read", tmp_path)
    assert status == OUTPUT_LOST
    assert not (tmp_path / "file").exists()
    assert "Traceback" not in errors
    assert "BrokenPipeError" not in errors
    told = [line for line in errors.splitlines() if line.startswith("error: stdout: cannot be written: ")]
    assert len(told) == (stdout != "unread")


@pytest.mark.parametrize(("how", "stderr"), [*(("files", stderr) for stderr in REASONS), ("output", "full")])
def test_either_is_done_without_stderr(tmp_path, how, stderr):
    status, printed, _ = run_program(how, "read", stderr, tmp_path)
    assert status == OUTPUT_LOST
    assert printed == "line 0\nline 1\nline 2\nat the end\n"
    assert (tmp_path / "file").exists()


def test_nothing_is_lost_where_all_is_read(tmp_path):
    status, printed, errors = run_program("files", "read", "read", tmp_path)
    assert (status, printed, errors) == (0, "line 0\nline 1\nline 2\nat the end\n", "line 0\nline 1\nline 2\n")
    assert (tmp_path / "file").read_text().endswith(" {}")


def test_a_command_ends_quickly_when_its_reader_has_gone():
    status, _, errors = run_with("unread", "read", sys.executable, "main.py", "models")
    assert (status, errors) == (OUTPUT_LOST, "")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_waits_for_a_terminal_is_said_though_stderr_is_a_pipe_by_then(is_terminal):
    script = "import sys\nfrom efficientnet_tpu.hardware.output_streams import guarded\n"
    script += "with guarded():\n    print(sys.stderr.isatty())"
    terminal, end = pty.openpty()
    stderr = end if is_terminal else subprocess.DEVNULL
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=60, check=True
        )
    finally:
        os.close(terminal)
        os.close(end)
    assert done.stdout == f"{is_terminal}\n"


@pytest.mark.slow
@pytest.mark.parametrize("streams", [*((one, "read") for one in REASONS), ("closed", "closed"), ("full", "full")])
def test_a_training_goes_on_without_them(tf, tmp_path, streams):
    from efficientnet_tpu.run.reports.log_entries import read_log

    command = [sys.executable, "main.py", "--dataset=fake:3:40:20", "--model=efficientnet-nano", "--resolution=32"]
    command += ["--train_batch_size=20", "--train_epochs=2", f"--model_dir={tmp_path}"]
    status, _, errors = run_with(*streams, *command)
    assert status == OUTPUT_LOST, errors
    assert "Traceback" not in errors
    assert list((tmp_path / "checkpoints").glob("*.index"))
    entries = read_log(str(tmp_path / "log.jsonl")).entries
    lost = [entry["lost"] for entry in entries if entry["kind"] == "output"]
    assert lost[0] == f"stdout: {REASONS[streams[0]]}"
    assert entries[-1]["kind"] == "validation"
