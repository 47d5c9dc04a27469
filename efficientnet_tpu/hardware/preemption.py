"""Stopping a run from outside: SIGTERM (a preemption, a scheduler) and Ctrl-C let it save first."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# What a scheduler may take for "start me again": nothing failed, there is more to do.
PREEMPTED = 42
_EXIT_STATUS = {signal.SIGTERM: PREEMPTED, signal.SIGINT: 130}


class StoppedError(Exception):
    """A run ended before its time, as it was asked to; the message says where it can be taken up."""

    def __init__(self, message: str, exit_status: int):
        super().__init__(message)
        self.exit_status = exit_status


class StopRequest:
    """Whether the process was told to stop, and by what."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def stopped(self, saved: str) -> StoppedError:
        """The error to end with. saved: where the work so far is."""
        assert self.signal is not None
        return StoppedError(f"stopped by {self.signal.name}: {saved}", _EXIT_STATUS[self.signal])


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within this context SIGTERM and the first Ctrl-C only set the request; a second Ctrl-C ends at once.

    Python runs handlers between two calls into TensorFlow, so whoever works has to come up for air every few seconds.
    """
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if request:
                raise KeyboardInterrupt
            print("\nsaving, then stopping; Ctrl-C once more stops at once", flush=True)
        request.signal = signal.Signals(number)

    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield request
        return
    before = {number: signal.signal(number, note) for number in _EXIT_STATUS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
