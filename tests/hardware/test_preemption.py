"""Signals: the first asks, and what ended a run can be told from the exit status."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from efficientnet_tpu.hardware import preemption
from efficientnet_tpu.hardware.preemption import PREEMPTED, STOP_SIGNALS, StopRequest, stop_requests


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 42), (signal.SIGHUP, 42), (signal.SIGUSR1, 42), (signal.SIGINT, 130)]
)
def test_a_signal_is_noted_and_nothing_else(number, status):
    with stop_requests() as request:
        assert not request
        os.kill(os.getpid(), number)
        assert request
    stopped = request.error("step 3 is saved")
    assert (str(stopped), stopped.exit_status) == (f"stopped by {number.name}: step 3 is saved", status)
    assert PREEMPTED == 42  # documented for schedulers


def test_a_second_ctrl_c_ends_at_once(capsys):
    with stop_requests():
        os.kill(os.getpid(), signal.SIGINT)
        assert "Ctrl-C once more stops at once" in capsys.readouterr().out
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back():
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)
    assert set(numbers) == {*STOP_SIGNALS, signal.SIGINT}
    before = [signal.getsignal(number) for number in numbers]
    with stop_requests():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in numbers] == before


def test_under_nohup_a_lost_terminal_stops_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as request:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not request
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# Prints for ever; says "saved" to a file once it is told to stop.
TRAINING = """
import fcntl, sys, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from efficientnet_tpu.hardware.preemption import stop_requests
with stop_requests() as request:
    while not request:
        print("step", flush=True)
        time.sleep(0.01)
    print("saving", flush=True)
    open(sys.argv[1], "w").write(f"saved after {request.signal.name}")
"""


def test_lines_for_a_terminal_that_is_gone_do_not_keep_a_run_from_saving(tmp_path):
    terminal, process = os.openpty()
    training = subprocess.Popen(
        [sys.executable, "-c", TRAINING, tmp_path / "out"],
        stdin=process, stdout=process, stderr=process, start_new_session=True,
    )  # fmt: skip
    os.close(process)
    assert os.read(terminal, 4) == b"step"
    os.close(terminal)  # the system sends SIGHUP, and every later line fails
    assert training.wait(timeout=20) == 0
    assert (tmp_path / "out").read_text() == "saved after SIGHUP"


def test_outside_the_main_thread_there_is_nothing_to_note():
    seen = []

    def work():
        with stop_requests() as request:
            seen.append(request)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert isinstance(seen[0], StopRequest)
    assert not seen[0]


STARTED = """
import signal, sys, time
from efficientnet_tpu.hardware.preemption import stop_requests, stop_with_parent
with stop_requests() as request:
    stop_with_parent()
    print("up", flush=True)
    while not request:
        time.sleep(0.05)
print("stopped by", request.signal.name, flush=True)
"""
STARTER = """
import sys, time
from efficientnet_tpu.run import subprocess_training
subprocess_training.command = lambda options: [sys.executable, "-c", options["text"]]
process = subprocess_training.start({"text": sys.argv[1]}, open(sys.argv[2], "w"))
time.sleep(60)
"""


def test_who_was_started_stops_when_the_starter_is_killed(tmp_path):
    output = tmp_path / "output"
    starter = subprocess.Popen([sys.executable, "-c", STARTER, STARTED, str(output)])
    _wait_for(lambda: output.exists() and "up" in output.read_text())
    starter.kill()
    starter.wait()
    _wait_for(lambda: "stopped by SIGTERM" in output.read_text())


def _wait_for(happened):
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_being_asked_the_standard_input_is_left_alone(monkeypatch):
    monkeypatch.delenv(preemption.WATCHED_INPUT, raising=False)
    preemption.stop_with_parent()
    assert not any(thread.name == "parent" for thread in threading.enumerate())
