"""Signals: the first asks, and what ended a run can be told from the exit status."""

import os
import signal
import threading

import pytest

from efficientnet_tpu.hardware.preemption import PREEMPTED, StopRequest, stop_requests


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 42), (signal.SIGINT, 130)])
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
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with stop_requests():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


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
