"""Lines of C++ libraries do not reach the user; all others do, the last words of a process that aborts included."""

import os
import signal
import subprocess
import sys

import pytest

LEFT_OUT = (
    "Corrupt JPEG data: premature end of data segment",
    "Unsupported marker type 0x11",
    "Improper call to JPEG library in state 201",
    "E0000 00:00:1796078750.570922   29758 jpeg_mem.cc:331] Premature end of JPEG data. Stopped at line 0/40",
    "2026-11-30 22:03:00.123456: E tensorflow/core/lib/jpeg/jpeg_mem.cc:331] Premature end of JPEG data. Stopped at 0",
    "E0000 00:00:1796078750.570922   29758 png_io.cc:112] PNG error: bad adaptive filter value",
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
    "E0000 00:00:1796080645.243699    8869 util.cc:131] oneDNN supports DT_UINT8 only on platforms with AVX-512. F",
)
# TensorFlow's own, and how they go on.
OF_TENSORFLOW = (
    "W0000 00:00:1796078750.570922   29758 gpu_device.cc:2341] Cannot dlopen some GPU libraries",
    "E0000 00:00:1796078750.570922   29758 coordination_service_agent.cc:530] Coordination agent is set to ERROR",
    ':UNKNOWN:Error received from peer  {grpc_message:"failed to connect to all addresses"}',
    "2026-11-30 22:03:00.123456: W tensorflow/core/framework/op_kernel.cc:1842] INVALID_ARGUMENT: b",
    "\t [[{{node b}}]]",
)
SHOWN = (
    "cannot be read: a.jpg: Corrupt JPEG data",
    "F0000 00:00:1796078750.570922   29758 jpeg_mem.cc:331] a fatal one",
    "error: a/jpeg_mem.cc: no such file",
)
PROGRAM = """
import os, sys
from efficientnet_tpu.hardware.library_messages import keep_in, without_library_messages
def work():
    for line in sys.argv[2:]:
        os.write(2, line.encode() + b"\\n")
    print("of Python", file=sys.stderr)
    os.write(2, b"half a line")
    if sys.argv[1] == "aborts":
        os.abort()
    if sys.argv[1] == "raises":
        raise KeyError("why")
with without_library_messages():
    work()
os.write(2, b"after")
"""


def _run(how, program=PROGRAM):
    command = [sys.executable, "-c", program, how, *LEFT_OUT, *OF_TENSORFLOW, *SHOWN]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_they_are_left_out_and_nothing_else_in_order():
    assert _run("ends").stderr == "".join(f"{line}\n" for line in (*SHOWN, "of Python")) + "half a lineafter"


@pytest.mark.parametrize(
    ("how", "status", "last"), [("aborts", -signal.SIGABRT, "half a line"), ("raises", 1, "'why'\n")]
)
def test_last_words_are_kept(how, status, last):
    done = _run(how)
    assert done.returncode == status
    assert all(line in done.stderr for line in (*SHOWN, *OF_TENSORFLOW))
    assert done.stderr.endswith(last)


def test_a_file_gets_those_of_tensorflow_and_no_others(tmp_path):
    path = tmp_path / "tensorflow.log"
    program = PROGRAM.replace("def work():", f"def work():\n    keep_in({str(path)!r})")
    assert _run("aborts", program).stderr == "".join(f"{line}\n" for line in (*SHOWN, "of Python")) + "half a line"
    assert path.read_text() == "".join(f"{line}\n" for line in OF_TENSORFLOW)


def test_a_file_that_cannot_be_written_is_as_none(tmp_path):
    program = PROGRAM.replace("def work():", f"def work():\n    keep_in('{tmp_path}/none/tensorflow.log')")
    assert all(line in _run("aborts", program).stderr for line in OF_TENSORFLOW)


def test_verbose_shows_those_of_tensorflow_in_order():
    program = PROGRAM.replace("def work():", "def work():\n    keep_in('-')")
    lines = (*OF_TENSORFLOW, *SHOWN, "of Python")
    assert _run("ends", program).stderr == "".join(f"{line}\n" for line in lines) + "half a lineafter"


def test_who_waits_for_the_end_of_a_killed_program_does_not_wait_long():
    code = PROGRAM.replace("work()\nos.", "print('up', flush=True); import time; time.sleep(60)\nos.")
    process = subprocess.Popen([sys.executable, "-c", code, ""], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout.readline() == b"up\n"
    os.kill(process.pid, signal.SIGKILL)
    assert process.communicate(timeout=30) == (b"", None)


def test_without_stderr_it_does_nothing():
    code = "import os, sys\nfrom efficientnet_tpu.hardware.library_messages import without_library_messages\n"
    code += "os.close(2)\nwith without_library_messages():\n    print(7)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout == b"7\n"


def test_what_libraries_quote_tells_a_terminal_nothing():
    command = [sys.executable, "-c", PROGRAM, "ends", "W0000 a.cc:1] a\x1b[2Jb\rc\td"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.startswith("W0000 a.cc:1] a\\x1b[2Jb\\x0dc\td\nof Python\n")


LIBTPU = "F0317 02:46:21.118406 358837 tpu_hal_impl_registration.cc:10] Check failed: tpu::TpuHalFactory::Register("


@pytest.mark.parametrize(("how", "is_explained"), [("aborts", True), ("raises", False), ("ends", False)])
def test_the_cause_of_an_abort_follows_its_last_words(how, is_explained):
    command = [sys.executable, "-c", PROGRAM, how, LIBTPU]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert f"{LIBTPU}\n" in done.stderr
    assert ("half a line\nerror: libtpu does not fit TensorFlow: " in done.stderr) == is_explained
    assert ("\n  try: in a fresh environment: pip install " in done.stderr) == is_explained
