"""Preemption: SIGTERM (from a scheduler or a preempted VM) and Ctrl-C let a run save before it stops."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# The exit status by which a scheduler can start the run again: nothing failed, there is more to do.
PREEMPTED = 42
_EXIT_STATUS = {signal.SIGTERM: PREEMPTED, signal.SIGINT: 130}


class StoppedError(Exception):
    """The end of a run that was told to stop; the message says how to continue it."""

    def __init__(self, message: str, exit_status: int):
        super().__init__(message)
        self.exit_status = exit_status


class StopRequest:
    """A request to stop the process; true once a signal has arrived. signal: the last one."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def error(self, saved: str) -> StoppedError:
        """Returns the error to end with. saved: a clause that says where the work so far is."""
        assert self.signal is not None
        return StoppedError(f"stopped by {self.signal.name}: {saved}", _EXIT_STATUS[self.signal])


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Yields a request that SIGTERM and the first Ctrl-C set within this context; a second Ctrl-C ends at once.

    Python runs signal handlers between two calls into TensorFlow, so long-running code must return to Python every few
    seconds.
    """
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if request:
                raise KeyboardInterrupt
            print("\nsaving, then stopping; Ctrl-C once more stops at once", flush=True)
        request.signal = signal.Signals(number)

    if threading.current_thread() is not threading.main_thread():  # handlers can be set only there
        yield request
        return
    before = {number: signal.signal(number, handle) for number in _EXIT_STATUS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
