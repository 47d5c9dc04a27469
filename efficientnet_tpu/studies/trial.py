"""The trainings of a study: processes of their own, gone on with where they were interrupted, a few at a time."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import Event
from typing import Any, TypeVar

from efficientnet_tpu.config.config import Config, training_options
from efficientnet_tpu.errors import UserError
from efficientnet_tpu.hardware import tensorflow_startup
from efficientnet_tpu.paper import reproduce, run_results
from efficientnet_tpu.run import subprocess_training

OUTPUT = "output.txt"  # in the trial's model_dir: what its training printed
T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """Of a finished trial. Accuracies from 0 to 1, of its last evaluation; CPU time of its last process."""

    top_1: float
    top_5: float
    epoch: float
    cpu_seconds: float


class StoppedError(RuntimeError):
    """A trial was asked to stop before its end; its training is saved."""


@contextlib.contextmanager
def study_directory(output_dir: str, shared: bool = False) -> Iterator[None]:
    """Makes a study's --output_dir if need be and, unless it is `shared` with other hosts, holds it.

    Raises UserError where it cannot be used, another program holds it, or its pictures could not be drawn.
    """
    if "://" in output_dir:
        raise UserError(f"--output_dir={output_dir}: must be a local directory; trials run on this machine.")
    reproduce.require_matplotlib(output_dir)
    tensorflow_startup.import_tensorflow()
    from efficientnet_tpu.storage import directory_lock

    os.makedirs(output_dir, exist_ok=True)
    # Hosts that share it share a database too, which gives each trial to one; a trial's own model_dir is held anyway.
    with contextlib.nullcontext() if shared else directory_lock.held(output_dir, "output_dir"):
        yield


def run(config: Config, model_dir: str, stop: Event) -> Outcome:
    """Trains `config` in a local `model_dir` to its end, which is at once where it has been reached before.

    Raises StoppedError soon after `stop` is set, and UserError, with the last lines of what it printed, where the
    training fails.
    """
    os.makedirs(model_dir, exist_ok=True)
    path = os.path.join(model_dir, OUTPUT)
    with open(path, "a", encoding="utf-8") as output:
        process = subprocess.Popen(
            subprocess_training.command(training_options(config) | {"model_dir": model_dir}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=subprocess_training.environment(),
        )
        status, cpu_seconds = _wait(process, stop)
    if stop.is_set():
        raise StoppedError(model_dir)
    if status:
        with open(path, encoding="utf-8") as output:
            last = "".join(output.readlines()[-15:])
        raise UserError(f"the training in {model_dir} ended with status {status}; all it printed is in {path}:\n{last}")
    found = run_results.load_runs(model_dir)[0]
    return Outcome(found.top_1, found.top_5, found.epoch, cpu_seconds)


def _wait(process: subprocess.Popen[bytes], stop: Event) -> tuple[int, float]:
    """The process' exit status and CPU seconds; where `stop` is set, it saves and ends first."""
    is_told = False
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            process.returncode = os.waitstatus_to_exitcode(status)  # or Popen would look for it again
            return process.returncode, usage.ru_utime + usage.ru_stime
        if is_told:
            time.sleep(0.2)
        elif stop.wait(0.2):
            process.terminate()
            is_told = True


def run_all(tasks: Sequence[Callable[[Event], T]], num_workers: int) -> Iterator[T]:
    """Calls every task with an Event, `num_workers` at a time, and yields results as they come.

    The first failure, Ctrl-C or SIGTERM sets the event, waits for what is running to save and end, and is raised.
    """
    stop = Event()

    def call(task: Callable[[Event], T]) -> T:
        if stop.is_set():
            raise StoppedError
        try:
            return task(stop)
        except BaseException:
            stop.set()  # here, before this thread takes up the next task
            raise

    handler: Any = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with ThreadPoolExecutor(num_workers) as pool:
            try:
                for finished in as_completed([pool.submit(call, task) for task in tasks]):
                    if not isinstance(finished.exception(), StoppedError):  # another's failure is the reason
                        yield finished.result()
            finally:
                stop.set()
    finally:
        signal.signal(signal.SIGTERM, handler)
