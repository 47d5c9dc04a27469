"""Preemption: signals of schedulers, preempted VMs and lost terminals, and Ctrl-C, let a run save before it stops."""

import contextlib
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

# The exit status by which a scheduler can start the run again: nothing failed, there is more to do.
PREEMPTED = 42
# SIGHUP: the terminal or the ssh connection is gone. SIGUSR1: what Slurm is told to send some time before the end.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_EXIT_STATUS = {**dict.fromkeys(STOP_SIGNALS, PREEMPTED), signal.SIGINT: 130}


# In the environment of a process whose standard input is a pipe from the one that started it.
WATCHED_INPUT = "EFFICIENTNET_TPU_STOP_WITH_PARENT"


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
    """Yields a request that STOP_SIGNALS and the first Ctrl-C set within this context; a second Ctrl-C ends at once.

    SIGHUP stays ignored where it was: that is what `nohup` is for.
    Python runs signal handlers between two calls into TensorFlow, so long-running code must return to Python every few
    seconds.
    """
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if request:
                raise KeyboardInterrupt
            with contextlib.suppress(RuntimeError):  # it came amid another line: no stream is written to twice at once
                print("\nsaving, then stopping; Ctrl-C once more stops at once", flush=True)
        if number == signal.SIGHUP:
            silence_lost_terminal()
        request.signal = signal.Signals(number)

    with handled(_EXIT_STATUS, handle):
        yield request


@contextlib.contextmanager
def handled(numbers: Iterable[signal.Signals], handle: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Calls `handle` on the signals within this context; not on a SIGHUP that is ignored, and not outside the main
    thread, where handlers cannot be set.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in numbers if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN)]
    before = {number: signal.signal(number, handle) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raises SystemExit on STOP_SIGNALS within this context, so that what is half done is cleared away."""

    def end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            silence_lost_terminal()
        sys.exit(128 + number)

    with handled(STOP_SIGNALS, end):
        yield


def stop_with_parent() -> None:
    """Sends this process SIGTERM when the one that started it is gone, if that has asked for it by WATCHED_INPUT.

    A process that was killed tells nobody, but the pipe that it held open ends.
    """
    if not os.environ.pop(WATCHED_INPUT, ""):
        return

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def silence_lost_terminal() -> None:
    """Sends the output to /dev/null where it went to a terminal that is gone: the next line would end the process."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # closed
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
