"""Processes of trials. Each is forked from a server that has imported the program, and has done nothing else.

A training so forked computes what a fresh process computes, without the seconds that importing TensorFlow takes; when
it ends, all that it used is free again. Importing this module imports the program: the server starts by doing so.
"""

import contextlib
import glob
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from efficientnet_tpu.config.config import command_line
from efficientnet_tpu.hardware import local_tpu, tensorflow_startup
from efficientnet_tpu.run import subprocess_training

tensorflow_startup.import_tensorflow()

from efficientnet_tpu import train  # noqa: E402, F401 - for the server, which forks what has been imported

_STARTING = threading.Lock()


@dataclass
class TrialProcess:
    """A process that calls a function, and what it returns."""

    process: BaseProcess
    result: Connection

    def wait(self, seconds: float) -> bool:
        """Waits at most so long for the end of the process. Returns whether it has ended."""
        if self.result.poll(seconds):  # it has sent its result, or has ended without one
            self.process.join()
        return self.process.exitcode is not None

    def returned(self, otherwise: Callable[[int], Any] = lambda status: None) -> Any:
        """Returns what the function has returned, after the end of the process.

        otherwise: makes the result of a process that ended within the function, of its exit status, negative for a
        signal.
        """
        with contextlib.suppress(EOFError):
            return self.result.recv()
        assert self.process.exitcode is not None
        return otherwise(self.process.exitcode)

    def terminate(self) -> None:
        """Sends the process SIGTERM."""
        self.process.terminate()


def start(function: Callable[..., Any], *arguments: Any, output: str) -> TrialProcess:
    """Starts a process that calls a function of a module and ends.

    It is sent SIGTERM when this process is gone, killed too. output: a file, at whose end it prints.
    """
    context = _context()
    receiver, sender = context.Pipe(duplex=False)
    # A daemon is told to end where the program ends early.
    process = context.Process(target=_call, args=(function, arguments, output, sender), daemon=True)
    process.start()
    sender.close()
    return TrialProcess(process, receiver)


def train_by_flags(options: Mapping[str, Any]) -> tuple[int, float]:
    """Trains in this process, as `main.py train_and_eval` with `options` (flag name -> value) does.

    Returns the exit status, and the CPU seconds of this process.
    """
    sys.argv = ["main.py", "train_and_eval", *command_line(options)]
    sys.modules.pop("efficientnet_tpu.__main__", None)  # main.py, which every process imports, has imported it
    status: Any = 0
    try:
        runpy.run_module("efficientnet_tpu", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return int(status or 0), usage.ru_utime + usage.ru_stime


def _context() -> Any:
    """Returns what starts processes: a server that forks them, or on machines with accelerators, fresh ones.

    The driver of a GPU or TPU that was asked for its devices does not survive a fork.
    """
    if glob.glob("/dev/nvidia[0-9]*") or local_tpu.find():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with _STARTING:
        # Its own choice would be removed with this program's other temporary files before it expects that.
        multiprocessing.current_process()._config.setdefault("tempdir", tempfile.mkdtemp())  # type: ignore[attr-defined]
        before = os.environ.get("PYTHONPATH")
        os.environ.update(subprocess_training.environment())  # Python 3.11 does not tell the server where modules are
        forkserver.ensure_running()
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return context


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], output: str, sender: Connection) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def stop_with_parent() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_with_parent, daemon=True, name="parent").start()
    sender.send(function(*arguments))
    sender.close()
